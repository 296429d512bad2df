//! A virtual WASI: everything links, and nothing reaches outside.
//!
//! wasmtime-wasi does the bookkeeping; what it is given is empty or refuses.
//! Clocks and polling are our own, because wasmtime-wasi's pollables wait in
//! real time whatever clock they are given.
//!
//! | interface | what the guest finds |
//! | --- | --- |
//! | `wasi:clocks` | the time of the newest journal entry |
//! | `wasi:random` | ChaCha streams from the run's seed |
//! | `wasi:io/poll` | of several timers the earliest fires, alone; all else is ready |
//! | `wasi:cli` | no arguments, no environment, an empty stdin; stdout and stderr are logs |
//! | `wasi:filesystem` | no folders |
//! | `wasi:sockets` | `access-denied` |
//! | `wasi:http` | `HTTP-request-denied` |

use std::collections::HashMap;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::io::poll;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, async_trait};
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::host::Host;
use super::stdio::Lines;
use super::world::World;
use crate::journal::{Micros, Stream};

/// Bytes that a guest can draw from the random stream in one call. Larger
/// draws trap; guests draw tens of bytes at a time.
const MAX_RANDOM: u64 = 64 << 10;

/// When each pollable that is a timer fires, by its number in the resource table.
pub type Timers = HashMap<u32, Micros>;

/// An empty context: no arguments, environment, folders or network.
pub fn context(seed: [u8; 32], lines: &Lines) -> WasiCtx {
    let stream = |number| {
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(number);
        rng
    };
    let mut hash_seed = [0; 16];
    stream(2).fill_bytes(&mut hash_seed);
    WasiCtx::builder()
        .secure_random(stream(0))
        .insecure_random(stream(1))
        .insecure_random_seed(u128::from_le_bytes(hash_seed))
        .max_random_size(MAX_RANDOM)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(lines.stream(Stream::Stdout))
        .stderr(lines.stream(Stream::Stderr))
        .build()
}

pub fn add_to_linker<W: World>(linker: &mut Linker<Host<W>>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    let options = wasmtime_wasi_http::p2::bindings::LinkOptions::default();
    types::add_to_linker::<_, wasmtime_wasi_http::WasiHttp>(
        linker,
        &(&options).into(),
        Host::<W>::http,
    )?;
    linker.allow_shadowing(true);
    refuse_http(linker)?;
    monotonic_clock::add_to_linker::<_, HasSelf<Host<W>>>(linker, |host| host)?;
    wall_clock::add_to_linker::<_, HasSelf<Host<W>>>(linker, |host| host)?;
    poll::add_to_linker::<_, HasSelf<Host<W>>>(linker, |host| host)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl<W: World> WasiView for Host<W> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl<W: World> wall_clock::Host for Host<W> {
    fn now(&mut self) -> Result<Datetime> {
        let now = self.world.now();
        let nanoseconds = (now % 1_000_000) as u32 * 1_000;
        Ok(Datetime { seconds: now / 1_000_000, nanoseconds })
    }

    fn resolution(&mut self) -> Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

/// Counts from the Unix epoch, so that it is later than any reading that an
/// interpreter took when its component was built.
impl<W: World> monotonic_clock::Host for Host<W> {
    fn now(&mut self) -> Result<u64> {
        Ok(self.world.now().saturating_mul(1_000))
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        self.subscribe(when.div_ceil(1_000))
    }

    fn subscribe_duration(&mut self, nanoseconds: u64) -> Result<Resource<DynPollable>> {
        self.subscribe(self.world.now().saturating_add(nanoseconds.div_ceil(1_000)))
    }
}

/// Stands in the resource table for a timer. Its time is in [`Timers`].
struct Timer;

#[async_trait]
impl wasmtime_wasi::p2::Pollable for Timer {
    async fn ready(&mut self) {}
}

impl<W: World> Host<W> {
    fn subscribe(&mut self, until: Micros) -> Result<Resource<DynPollable>> {
        let timer = self.table.push(Timer)?;
        let pollable = wasmtime_wasi::p2::subscribe(&mut self.table, timer)?;
        self.timers.insert(pollable.rep(), until);
        Ok(pollable)
    }

    /// When the pollable fires; `None` if it is ready as it stands.
    fn fires_at(&self, pollable: &Resource<DynPollable>) -> Option<Micros> {
        let until = self.timers.get(&pollable.rep()).copied()?;
        (until > self.world.now()).then_some(until)
    }
}

impl<W: World> poll::Host for Host<W> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        // A list may name the same pollable many times, at no cost to the guest.
        if pollables.len() as u64 > self.limits.handles {
            wasmtime::bail!("`poll` was called with more than {} pollables", self.limits.handles);
        }
        let mut ready = Vec::new();
        let mut earliest: Option<(Micros, u32)> = None;
        for (index, pollable) in (0..).zip(&pollables) {
            match self.fires_at(pollable) {
                None => ready.push(index),
                Some(until) => {
                    earliest = earliest.into_iter().chain([(until, index)]).min();
                }
            }
        }
        match earliest {
            Some((until, index)) if ready.is_empty() => {
                self.sleep(until).await?;
                Ok(vec![index])
            }
            None if ready.is_empty() => wasmtime::bail!("`poll` was called with an empty list"),
            _ => Ok(ready),
        }
    }
}

impl<W: World> poll::HostPollable for Host<W> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        Ok(self.fires_at(&pollable).is_none())
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        match self.fires_at(&pollable) {
            Some(until) => self.sleep(until).await,
            None => Ok(()),
        }
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        self.timers.remove(&pollable.rep());
        <ResourceTable as poll::HostPollable>::drop(&mut self.table, pollable)
    }
}

/// Bytes of one set of headers. They go nowhere; a guest can hold as many sets
/// as handles.
const MAX_FIELDS: usize = 8 << 10;

/// State behind `wasi:http`: headers that go nowhere.
pub struct Http {
    context: WasiHttpCtx,
    hooks: NoHttp,
}

impl Default for Http {
    fn default() -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELDS);
        Self { context, hooks: NoHttp }
    }
}

/// Never asked: requests end in [`refuse_http`].
struct NoHttp;

impl wasmtime_wasi_http::WasiHttpHooks for NoHttp {
    fn send_request(
        &mut self,
        _: http::Request<wasmtime_wasi_http::WasiBody>,
        _: Option<wasmtime_wasi_http::RequestOptions>,
        _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = SentRequest> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}

type SentRequest = Result<
    (
        http::Response<wasmtime_wasi_http::WasiBody>,
        Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ),
    wasmtime_wasi_http::Error,
>;

impl<W: World> WasiHttpView for Host<W> {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http.context,
            table: &mut self.table,
            hooks: &mut self.http.hooks,
        }
    }
}

/// Refuses every request, and what only a request that is sent has a use for.
///
/// wasmtime-wasi-http would start a task for a request, whose timing the guest
/// could see; it would let a guest wait for ever for room in a body that nobody
/// reads; and it would keep methods and authorities of any length.
fn refuse_http<W: World>(linker: &mut Linker<Host<W>>) -> Result<()> {
    type Request = Resource<types::OutgoingRequest>;
    type Options = Option<Resource<types::RequestOptions>>;
    type Answer = std::result::Result<Resource<types::FutureIncomingResponse>, types::ErrorCode>;
    linker.instance("wasi:http/outgoing-handler@0.2.0")?.func_wrap(
        "handle",
        |mut store, (request, _): (Request, Options)| {
            let host: &mut Host<W> = store.data_mut();
            host.table.delete(request)?;
            Ok((Answer::Err(types::ErrorCode::HttpRequestDenied),))
        },
    )?;

    type Refused<T> = std::result::Result<T, ()>;
    type Body = Refused<Resource<types::OutgoingBody>>;
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap("[method]outgoing-request.body", |_, (_,): (Request,)| Ok((Body::Err(()),)))?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |_, (_,): (Resource<types::OutgoingResponse>,)| Ok((Body::Err(()),)),
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |_, (_, _): (Request, types::Method)| Ok((Refused::<()>::Err(()),)),
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |_, (_, _): (Request, Option<String>)| Ok((Refused::<()>::Err(()),)),
    )
}
