//! A run from start to outcome: the executor, the one door, replays, forks, what-ifs.
//!
//! It knows neither how journals and revisions are stored (it is given them)
//! nor how tools work (it is given those too), nor anything of wasmtime.

mod control;
mod durable;
pub mod effects;
mod executor;
mod fork;
mod outcome;
mod replay;
mod start;
mod what_if;

pub use control::{Canceller, Control, Due, Interrupt};
pub use durable::DurableRun;
pub use effects::decide::{Divergence, Found, Request};
pub use effects::recorder::{Close, Memory, RecordError, Recorder};
pub use effects::system::{now, run_id, seed};
pub use effects::tape::{Halt, Park};
pub use executor::{Executor, Fault, PrepareError, Prepared, Progress, Ran, Unloaded};
pub use fork::{ForkError, ForkPlan, ForkWish};
pub use replay::{Replay, Verdict};
pub use start::{InputError, Journal, NewRun};
pub use what_if::{CallChange, Stop, WhatIf, WhatIfError};
