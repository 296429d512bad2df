//! The sealed revision: its digest, its manifest and its limits. Plain values, no I/O.

mod asks;
mod component;
mod digest;
mod limits;
mod manifest;
mod schema;
mod seal;

pub use asks::{asks, widening};
pub use component::{MAX_COMPONENT_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS};
pub use digest::{Digest, InvalidDigest};
pub use limits::{InvalidLimit, LimitInfo, Limits, SomeLimits};
pub use manifest::{
    AgentName, InvalidAgentName, InvalidManifest, InvalidToolPattern, MANIFEST_FORMAT,
    MAX_MANIFEST_BYTES, Manifest, OutputSpec, OutputType, ToolPattern,
};
pub use schema::{InvalidSchema, MAX_VIOLATIONS, Schema, Violation};
pub use seal::{MANIFEST_SECTION, Revision, RevisionError, seal};
