//! From a revision to something that can be instantiated: compile or load,
//! link, check the types.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use super::bindings::AgentPre;
use super::bindings::exports::reenact::agent::guest::{Failure, Output};
use super::cache::Cache;
use super::host::Host;
use super::world::World;
use super::{engine, host, wasi};
use crate::revision::Revision;

/// How long compiling may take. The largest guests seen, 18 MB of Python, take
/// 7 s on two cores; code that takes ten times as long is made to be slow.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);

/// The engine with everything that a guest can import.
pub struct Sandbox<W: 'static> {
    engine: Engine,
    linker: Linker<Host<W>>,
    cache: Option<Cache>,
    compile_timeout: Duration,
}

/// A revision that is ready to run.
pub struct Program<W: 'static> {
    pub(super) pre: AgentPre<Host<W>>,
    /// Whether the compiled code came from the cache.
    pub cached: bool,
}

impl<W> Clone for Program<W> {
    fn clone(&self) -> Self {
        Self { pre: self.pre.clone(), cached: self.cached }
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
        let set_up = || {
            let engine = engine::engine()?;
            let mut linker = Linker::new(&engine);
            wasi::add_to_linker(&mut linker)?;
            host::add_to_linker(&mut linker)?;
            Ok::<_, wasmtime::Error>((engine, linker))
        };
        let (engine, linker) = set_up().map_err(|error| LoadError::Engine(chain(&error)))?;
        let cache = cache.map(|root| Cache::new(root, &engine));
        Ok(Self { engine, linker, cache, compile_timeout: COMPILE_TIMEOUT })
    }

    pub fn with_compile_timeout(mut self, timeout: Duration) -> Self {
        self.compile_timeout = timeout;
        self
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Compiles the revision, or takes its code from the cache, and checks that
    /// its imports and exports have the world's types. Takes seconds for a large
    /// revision that is not cached.
    pub fn load(&self, revision: &Revision) -> Result<Program<W>, LoadError> {
        let cached = self.cache.as_ref().and_then(|cache| cache.get(&revision.digest));
        let (component, cached) = match cached.and_then(|code| self.deserialize(&code)) {
            Some(component) => (component, true),
            None => {
                let code = self.compile(revision.bytes.clone())?;
                if let Some(cache) = &self.cache
                    && let Err(error) = cache.put(&revision.digest, &code)
                {
                    let path = cache.path(&revision.digest);
                    tracing::warn!("cannot keep compiled code in `{}`: {error}", path.display());
                }
                let component = self.deserialize(&code);
                let broken = || LoadError::Compile("the compiled code does not load".to_owned());
                (component.ok_or_else(broken)?, false)
            }
        };
        let wrong = |error: wasmtime::Error| LoadError::WrongTypes(chain(&error));
        let pre = self.linker.instantiate_pre(&component).map_err(wrong)?;
        let pre = AgentPre::new(pre).map_err(wrong)?;
        check_run(&component).map_err(wrong)?;
        Ok(Program { pre, cached })
    }

    /// Compiles on a thread of its own: Cranelift cannot be interrupted, so
    /// after the timeout the thread is left behind and its result dropped.
    fn compile(&self, bytes: Arc<[u8]>) -> Result<Vec<u8>, LoadError> {
        let (sender, receiver) = mpsc::channel();
        let engine = self.engine.clone();
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
    fn deserialize(&self, code: &[u8]) -> Option<Component> {
        // SAFETY: the code was compiled by this process, or comes from the
        // cache: a folder private to this user, whose files are only taken
        // when their content has the hash that was written with them.
        unsafe { Component::deserialize(&self.engine, code) }.ok()
    }
}

/// Checks the type of the one function that is called. Linking finds out about
/// imports; about exports wasmtime says nothing until an instance is there, and
/// that would be in the middle of a run.
fn check_run(component: &Component) -> wasmtime::Result<()> {
    let not_there = || wasmtime::Error::msg("it exports no function `run` in `guest`");
    let (_, guest) =
        component.get_export(None, "reenact:agent/guest@0.1.0").ok_or_else(not_there)?;
    match component.get_export(Some(&guest), "run") {
        Some((ComponentItem::ComponentFunc(run), _)) => run
            .typecheck::<(String,), (Result<Output, Failure>,)>(
                &component.component_type().instance_type(),
            )
            .map_err(|error| error.context("`run` has the wrong type")),
        _ => Err(not_there()),
    }
}

/// An error with its causes on one line.
fn chain(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    causes.join(": ")
}
