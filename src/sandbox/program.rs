//! From a revision to something that can be loaded: compiled now, or code that is kept.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::cache::Cache;
use super::pool::{Pool, Ready, SLOTS};
use super::world::World;
use crate::revision::Revision;

/// How long compiling may take. The largest guests seen, 18 MB of Python, take
/// 7 s on two cores; code that takes ten times as long is made to be slow.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);

/// Compiles revisions and runs them.
pub struct Sandbox<W: 'static> {
    pub(super) pool: Pool<W>,
    cache: Option<Cache>,
    compile_timeout: Duration,
}

/// A revision that is ready to run.
pub struct Program<W: 'static> {
    pub(super) ready: Ready<W>,
    /// Whether the compiled code came from the cache.
    pub cached: bool,
}

impl<W> Clone for Program<W> {
    fn clone(&self) -> Self {
        Self { ready: self.ready.clone(), cached: self.cached }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot set up the sandbox: {0}")]
    Engine(String),
    #[error("cannot compile the revision: {0}")]
    Compile(String),
    #[error("compiling the revision took longer than {} s", .0.as_secs())]
    CompileTimeout(Duration),
    #[error("the revision does not fit the world `reenact:agent`: {0}")]
    WrongTypes(String),
}

impl<W: World> Sandbox<W> {
    /// A sandbox that keeps compiled code under `cache`, if that is given.
    pub fn new(cache: Option<&Path>) -> Result<Self, LoadError> {
        Self::with_slots(cache, SLOTS)
    }

    /// As [`Sandbox::new`], with slots for so many guests. More can be loaded, which
    /// takes longer.
    pub fn with_slots(cache: Option<&Path>, slots: u32) -> Result<Self, LoadError> {
        let pool = Pool::new(slots)?;
        let cache = match cache {
            Some(root) => Some(Cache::new(root, pool.engine()?)),
            None => None,
        };
        Ok(Self { pool, cache, compile_timeout: COMPILE_TIMEOUT })
    }

    pub fn with_compile_timeout(mut self, timeout: Duration) -> Self {
        self.compile_timeout = timeout;
        self
    }

    /// Compiles the revision, or takes its code from the cache, and checks that
    /// its imports and exports have the world's types. Takes seconds for a large
    /// revision that is not cached.
    pub fn load(&self, revision: &Revision) -> Result<Program<W>, LoadError> {
        let cached = self.cache.as_ref().and_then(|cache| cache.get(&revision.digest));
        if let Some(code) = cached
            && let Some(ready) = self.ready(&code)?
        {
            return Ok(Program { ready, cached: true });
        }
        let code = self.compile(revision.bytes.clone())?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.put(&revision.digest, &code)
        {
            let path = cache.path(&revision.digest);
            tracing::warn!("cannot keep compiled code in `{}`: {error}", path.display());
        }
        let broken = || LoadError::Compile("the compiled code does not load".to_owned());
        Ok(Program { ready: self.ready(&code)?.ok_or_else(broken)?, cached: false })
    }

    /// Compiles on a thread of its own: Cranelift cannot be interrupted, so
    /// after the timeout the thread is left behind and its result dropped.
    fn compile(&self, bytes: Arc<[u8]>) -> Result<Vec<u8>, LoadError> {
        let (sender, receiver) = mpsc::channel();
        let engine = self.pool.engine()?.clone();
        std::thread::Builder::new()
            .name("compile".to_owned())
            .spawn(move || sender.send(engine.precompile_component(&bytes)))
            .map_err(|error| LoadError::Compile(error.to_string()))?;
        match receiver.recv_timeout(self.compile_timeout) {
            Ok(code) => code.map_err(|error| LoadError::Compile(chain(&error))),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(LoadError::CompileTimeout(self.compile_timeout))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(LoadError::Compile("the compiler panicked".to_owned()))
            }
        }
    }

    /// `None` if the code is from another version or other settings.
    fn ready(&self, code: &[u8]) -> Result<Option<Ready<W>>, LoadError> {
        // SAFETY: the code was compiled by this process, or comes from the
        // cache: a folder private to this user, whose files are only taken
        // when their content has the hash that was written with them.
        unsafe { self.pool.ready(code) }
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    causes.join(": ")
}
