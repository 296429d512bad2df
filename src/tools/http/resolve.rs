//! From a host's name to the addresses that may be connected to.
//!
//! The client asks here whenever it opens a connection to a name, and connects
//! to what is answered and nothing else: so every address of a connection was
//! checked itself, however often a name changes where it leads.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::address::Addresses;

/// Further addresses of a name are not tried: each may take the whole time to connect.
const MAX_ADDRESSES: usize = 16;

/// Lookups that wait at the same time. The system's cannot be abandoned: each
/// holds a thread until the system gives up.
const LOOKUPS_AT_ONCE: usize = 16;

/// How a name becomes addresses.
pub trait Lookup: Send + Sync {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's way.
pub struct System(Arc<Semaphore>);

impl Default for System {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)))
    }
}

impl Lookup for System {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let places = self.0.clone();
        let task = async move {
            let place = places.acquire_owned().await.expect("nobody closes the semaphore");
            let task = tokio::task::spawn_blocking(move || {
                let _place = place;
                (host.as_str(), 0).to_socket_addrs().map(|found| found.map(|it| it.ip()).collect())
            });
            task.await.map_err(io::Error::other)?
        };
        task.boxed()
    }
}

/// A name leads to nothing but addresses that are not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{host}` leads to {what}, which the operator does not grant; ask for it in `allow_addresses` of `[grants.http]`"
)]
pub struct Forbidden {
    pub host: String,
    /// What kind of address it is, with an article.
    pub what: &'static str,
}

/// Answers the client, with addresses that it may connect to.
pub struct Guarded {
    pub lookup: Arc<dyn Lookup>,
    pub addresses: Addresses,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let looked_up = self.lookup.addresses(host.clone());
        let addresses = self.addresses.clone();
        Box::pin(async move {
            let free = sift(host, looked_up.await?, &addresses)?;
            // The client puts the URL's port where there is none.
            let free = free.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(free) as Addrs)
        })
    }
}

fn sift(
    host: String,
    found: Vec<IpAddr>,
    addresses: &Addresses,
) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut free, mut refused) = (Vec::new(), None);
    for address in found {
        match addresses.check(address) {
            Ok(()) if free.len() < MAX_ADDRESSES => free.push(address),
            Ok(()) => {}
            Err(what) => refused = refused.or(Some(what)),
        }
    }
    match refused {
        Some(what) if free.is_empty() => Err(Forbidden { host, what }.into()),
        None if free.is_empty() => Err(format!("`{host}` has no address").into()),
        _ => Ok(free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sifted(found: &[&str]) -> Result<Vec<String>, String> {
        let found = found.iter().map(|text| text.parse().unwrap()).collect();
        let addresses = Addresses::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        sift("x.org".into(), found, &addresses)
            .map(|free| free.iter().map(ToString::to_string).collect())
            .map_err(|cause| cause.to_string())
    }

    #[test]
    fn only_addresses_that_are_free_are_connected_to() {
        let mixed = ["127.0.0.1", "1.1.1.1", "::1", "10.0.0.1", "169.254.169.254", "2606:4700::1"];
        assert_eq!(sifted(&mixed).unwrap(), ["1.1.1.1", "10.0.0.1", "2606:4700::1"]);
        let many: Vec<_> = (0..100).map(|n| format!("1.1.1.{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(sifted(&many).unwrap().len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_name_with_nothing_but_forbidden_addresses_says_of_what_kind() {
        assert_eq!(
            sifted(&["127.0.0.1", "169.254.169.254"]).unwrap_err(),
            "`x.org` leads to a loopback address, which the operator does not grant; ask for it in \
             `allow_addresses` of `[grants.http]`"
        );
        assert_eq!(sifted(&[]).unwrap_err(), "`x.org` has no address");
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = System::default().addresses("localhost".into()).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
