//! A server's API from the other side: its calls as methods, with the types that the
//! server itself answers.
//!
//! It owns the address and the key, retries, time limits, the bounds of answers, and
//! streams of events that outlive their connections. It prints nothing: what a person
//! should know while it tries again is a [`Notice`]. What the calls are good for is the
//! business of whoever makes them.

mod address;
mod calls;
mod error;
mod follow;
mod key;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use address::Address;
pub use calls::{ALL, Decision, ListRuns, Publishing};
pub use error::ClientError;
pub use follow::{Following, Step};
pub use key::Key;

/// For making a connection; a machine that is there takes milliseconds.
const CONNECT: Duration = Duration::from_secs(10);

const USER: &str = concat!("reenact/", env!("CARGO_PKG_VERSION"));

/// What goes on while a call is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It did not work, and is tried again after the wait.
    Again { cause: String, wait: Duration },
}

type Listener = Arc<dyn Fn(Notice) + Send + Sync>;

/// A server as a client sees it. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: Address,
    key: Option<Key>,
    listener: Listener,
    /// Whether it has ever answered: until then its address may just be wrong.
    is_known: Arc<AtomicBool>,
}

impl Client {
    /// Connects to nothing yet. Redirects are not followed, so that the key goes to this
    /// server only. The proxies of the environment are used on the way to other machines.
    pub fn new(
        address: Address,
        key: Option<Key>,
        listener: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(USER)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none());
        let http = if address.is_here() { http.no_proxy() } else { http };
        let http = http.build().map_err(|error| ClientError::Machine(error::innermost(&error)))?;
        let is_known = Arc::new(AtomicBool::new(false));
        Ok(Self { http, address, key, listener: Arc::new(listener), is_known })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}
