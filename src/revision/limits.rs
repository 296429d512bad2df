//! Every limit of a run: its name, default, ceiling and meaning, in one table.
//!
//! A manifest may set each limit, up to its ceiling; the operator's
//! configuration may cap it further. What a run gets is the smaller of the two
//! and is recorded in its journal. Enforcing them is the runtime's and the
//! sandbox's work.

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitInfo {
    pub name: &'static str,
    pub default: u64,
    /// No manifest and no configuration can go beyond this.
    pub ceiling: u64,
    pub meaning: &'static str,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $(#[serde $serde:tt])? $name:ident = $default:expr, at most $ceiling:expr;)+) => {
        /// The limits that one run has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits { $($(#[doc = $doc])+ $(#[serde $serde])? pub $name: u64,)+ }

        /// Limits as somebody wrote them down: what is absent is not said.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct SomeLimits {
            $(#[serde(default, skip_serializing_if = "Option::is_none")] pub $name: Option<u64>,)+
        }

        impl Limits {
            pub const TABLE: &[LimitInfo] = &[$(LimitInfo {
                name: stringify!($name),
                default: $default,
                ceiling: $ceiling,
                meaning: concat!($($doc),+),
            },)+];

            /// A limit that is this high limits nothing.
            pub const UNLIMITED: u64 = UNLIMITED;

            pub const DEFAULT: Self = Self { $($name: $default,)+ };

            /// What a run gets: what the manifest asks for, else the default,
            /// but never more than the operator's cap.
            pub fn effective(asked: &SomeLimits, caps: &SomeLimits) -> Self {
                Self { $($name: asked.$name.unwrap_or($default).min(caps.$name.unwrap_or($ceiling)),)+ }
            }

            /// Refuses what no manifest and no operator can have asked for.
            pub fn check(&self) -> Result<(), InvalidLimit> {
                SomeLimits { $($name: Some(self.$name),)+ }.check()
            }

            /// Name and value of every limit, in the table's order.
            pub fn rows(&self) -> Vec<(&'static LimitInfo, u64)> {
                Self::TABLE.iter().zip([$(self.$name,)+]).collect()
            }
        }

        impl SomeLimits {
            /// Refuses zero, which no run could live with, and anything over a ceiling.
            pub fn check(&self) -> Result<(), InvalidLimit> {
                let said = [$(self.$name,)+];
                for (info, value) in Limits::TABLE.iter().zip(said) {
                    let Some(value) = value else { continue };
                    if value == 0 || value > info.ceiling {
                        return Err(InvalidLimit { name: info.name, value, ceiling: info.ceiling });
                    }
                }
                Ok(())
            }
        }
    };
}

/// A limit outside of what its row in the table allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit `{name}` is `{value}`, but must be from 1 to {ceiling}")]
pub struct InvalidLimit {
    pub name: &'static str,
    pub value: u64,
    pub ceiling: u64,
}

/// What a limit is to a journal that was written before there was one.
const UNLIMITED: u64 = 1 << 53;

fn unlimited() -> u64 {
    UNLIMITED
}

fn is_unlimited(limit: &u64) -> bool {
    *limit == UNLIMITED
}

limits! {
    /// instructions that the guest may execute
    fuel = 10_000_000_000, at most 1 << 53;
    /// bytes of linear memory, all memories together
    memory_bytes = 256 * MIB, at most 4 * GIB;
    /// elements of all wasm tables together
    table_elements = 100_000, at most 10_000_000;
    /// handles that the guest may hold open at once
    handles = 1_000, at most 100_000;
    /// milliseconds from start to end, waiting included
    deadline_ms = 600_000, at most 30 * 24 * 3_600_000;
    /// bytes of the input JSON
    input_bytes = MIB, at most 64 * MIB;
    /// bytes of the output
    output_bytes = 4 * MIB, at most 64 * MIB;
    /// events emitted, spans opened and sleeps
    events = 10_000, at most 1_000_000;
    /// bytes of one event's data
    event_bytes = 64 * KIB, at most 16 * MIB;
    /// bytes written to stdout and stderr; what comes after is dropped
    log_bytes = MIB, at most 64 * MIB;
    /// lines written to stdout and stderr; what comes after is dropped
    log_lines = 10_000, at most 1_000_000;
    /// tool calls
    tool_calls = 1_000, at most 100_000;
    /// tool calls in one `call-all`
    calls_at_once = 64, at most 1_024;
    /// bytes of one tool call's arguments
    argument_bytes = MIB, at most 16 * MIB;
    /// bytes of one tool's answer
    answer_bytes = 4 * MIB, at most 64 * MIB;
    /// milliseconds that one tool call may take
    tool_timeout_ms = 60_000, at most 24 * 3_600_000;
    /// sources that a run collects; further ones are dropped
    sources = 1_000, at most 100_000;
    /// bytes of the whole journal
    journal_bytes = 256 * MIB, at most 4 * GIB;
    /// tokens that models may read and write
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    model_tokens = 1_000_000, at most UNLIMITED;
    /// millionths of the price table's unit that models may cost
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    model_cost_micros = UNLIMITED, at most UNLIMITED;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_manifest_and_operator_wins() {
        let asked = SomeLimits { fuel: Some(500), events: Some(5), ..Default::default() };
        let caps = SomeLimits { fuel: Some(100), tool_calls: Some(7), ..Default::default() };
        let limits = Limits::effective(&asked, &caps);
        assert_eq!((limits.fuel, limits.events, limits.tool_calls), (100, 5, 7));
        assert_eq!(limits.log_bytes, Limits::DEFAULT.log_bytes);
    }

    #[test]
    fn zero_and_beyond_the_ceiling_are_refused() {
        for value in [0, (1 << 53) + 1] {
            let asked = SomeLimits { fuel: Some(value), ..Default::default() };
            assert_eq!(asked.check().unwrap_err().name, "fuel");
        }
        for info in Limits::TABLE {
            assert!(info.default <= info.ceiling, "{}", info.name);
        }
    }
}
