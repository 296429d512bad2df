//! Where guests are loaded: in slots that are made ready once, and while none is
//! free, or the guest does not fit into one, in memory of their own. To the guest
//! it makes no difference.

use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use super::bindings::AgentPre;
use super::bindings::exports::reenact::agent::guest::{Failure, Output};
use super::host::Host;
use super::program::{LoadError, chain};
use super::world::World;
use super::{engine, host, wasi};
use crate::revision::Limits;

/// Slots of a pool whose size nobody has set.
pub const SLOTS: u32 = 64;

/// A slot in use takes six of the kernel's memory maps, of which a process has 65,530
/// unless that is set higher, and each takes eight gigabytes of addresses.
pub const MAX_SLOTS: u32 = 10_000;

/// Everything that loads guests.
pub struct Pool<W: 'static> {
    slots: Option<Slots<W>>,
    spare: OnceLock<Room<W>>,
}

/// An engine with everything that a guest can import.
struct Room<W: 'static> {
    engine: Engine,
    linker: Linker<Host<W>>,
}

struct Slots<W: 'static> {
    room: Room<W>,
    free: Arc<Semaphore>,
}

/// A component that is ready to be loaded.
pub struct Ready<W: 'static> {
    /// Into a slot; `None` if it does not fit into one.
    slot: Option<AgentPre<Host<W>>>,
    /// Into memory of its own, as soon as that was needed once.
    spare: Arc<OnceLock<AgentPre<Host<W>>>>,
    component: Component,
}

impl<W> Clone for Ready<W> {
    fn clone(&self) -> Self {
        let Self { slot, spare, component } = self;
        Self { slot: slot.clone(), spare: Arc::clone(spare), component: component.clone() }
    }
}

/// Where one guest is loaded. To be dropped after its store.
pub struct Place<W: 'static> {
    pub pre: AgentPre<Host<W>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<W: World> Pool<W> {
    /// A pool of so many slots, of [`MAX_SLOTS`] at most. Where the system does not
    /// give what they need there are none, and guests take longer to load.
    pub fn new(slots: u32) -> Result<Self, LoadError> {
        let slots = slots.min(MAX_SLOTS);
        let room = engine::pooled(slots).and_then(Room::of);
        let slots = match room {
            Ok(room) => Some(Slots { room, free: Arc::new(Semaphore::new(slots as usize)) }),
            Err(error) => {
                let why = chain(&error);
                tracing::warn!("guests take longer to load: no slots for {slots} of them: {why}");
                None
            }
        };
        let pool = Self { slots, spare: OnceLock::new() };
        pool.room()?;
        Ok(pool)
    }

    /// The engine that compiles.
    pub fn engine(&self) -> Result<&Engine, LoadError> {
        Ok(&self.room()?.engine)
    }

    fn room(&self) -> Result<&Room<W>, LoadError> {
        match &self.slots {
            Some(slots) => Ok(&slots.room),
            None => self.spare(),
        }
    }

    fn spare(&self) -> Result<&Room<W>, LoadError> {
        if self.spare.get().is_none() {
            let room = engine::on_demand().and_then(Room::of);
            // Somebody else may have been faster.
            let _ = self.spare.set(room.map_err(|error| LoadError::Engine(chain(&error)))?);
        }
        Ok(self.spare.get().expect("it was set"))
    }

    /// Makes compiled code ready to be loaded, and checks that its imports and exports
    /// have the world's types. `None` if the code is from another version or other
    /// settings.
    ///
    /// # Safety
    ///
    /// The code must be what an engine of this program has compiled.
    pub unsafe fn ready(&self, code: &[u8]) -> Result<Option<Ready<W>>, LoadError> {
        if let Some(Slots { room, .. }) = &self.slots {
            // SAFETY: as the caller says.
            match unsafe { Component::deserialize(&room.engine, code) } {
                Ok(component) => {
                    let slot = Some(room.link(&component)?);
                    return Ok(Some(Ready { slot, spare: Arc::default(), component }));
                }
                Err(error) => tracing::debug!("a revision fits in no slot: {}", chain(&error)),
            }
        }
        let room = self.spare()?;
        // SAFETY: as the caller says.
        let Ok(component) = (unsafe { Component::deserialize(&room.engine, code) }) else {
            return Ok(None);
        };
        let spare = Arc::new(OnceLock::from(room.link(&component)?));
        Ok(Some(Ready { slot: None, spare, component }))
    }

    /// A place for one guest with these limits.
    pub fn place(&self, ready: &Ready<W>, limits: &Limits) -> Result<Place<W>, LoadError> {
        if let (Some(slots), Some(pre)) = (&self.slots, &ready.slot)
            && limits.table_elements <= engine::SLOT_TABLE
            && let Ok(slot) = Arc::clone(&slots.free).try_acquire_owned()
        {
            return Ok(Place { pre: pre.clone(), _slot: Some(slot) });
        }
        if let Some(pre) = ready.spare.get() {
            return Ok(Place { pre: pre.clone(), _slot: None });
        }
        let room = self.spare()?;
        let broken = |error: wasmtime::Error| LoadError::Compile(chain(&error));
        let code = ready.component.serialize().map_err(broken)?;
        // SAFETY: the code is that of a component of this program.
        let component = unsafe { Component::deserialize(&room.engine, code) }.map_err(broken)?;
        let pre = room.link(&component)?;
        Ok(Place { pre: ready.spare.get_or_init(|| pre).clone(), _slot: None })
    }
}

impl<W: World> Room<W> {
    fn of(engine: Engine) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker)?;
        host::add_to_linker(&mut linker)?;
        Ok(Self { engine, linker })
    }

    fn link(&self, component: &Component) -> Result<AgentPre<Host<W>>, LoadError> {
        let wrong = |error: wasmtime::Error| LoadError::WrongTypes(chain(&error));
        let pre = self.linker.instantiate_pre(component).and_then(AgentPre::new).map_err(wrong)?;
        check_run(component).map_err(wrong)?;
        Ok(pre)
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
