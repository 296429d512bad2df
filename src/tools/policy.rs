//! Whether a run may call a tool: a pure decision with reasons.
//!
//! A tool is allowed if the manifest asks for it and the operator grants its
//! provider. A reason tells the agent's author what to do next. How a manifest
//! names several tools at once is the manifest's business, not this module's.

use super::{Kind, clip, quoted};

/// A guest may pass a name of any length; a message repeats this much of it.
const SHOWN_NAME_BYTES: usize = 200;

/// What this host has under a tool's name.
#[derive(Clone, Copy)]
pub enum Standing<'a> {
    /// A granted provider has the tool.
    Granted,
    /// The provider is granted, but has only these tools.
    NoSuchTool(&'a [&'a str]),
    /// The kind of provider exists, but the operator does not grant it.
    NotGranted(&'static Kind),
    /// The name belongs to no kind of provider.
    NoSuchProvider,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied { why: String },
    Unknown { why: String },
}

/// Decides about one tool. `asked` says whether the manifest asks for it.
///
/// What does not exist is unknown, whoever asks for it. Which tools an absent
/// provider would have is not known, so all of them are denied.
pub fn decide(name: &str, asked: bool, standing: Standing<'_>) -> Decision {
    let shown = clip(name, SHOWN_NAME_BYTES);
    match standing {
        Standing::NoSuchProvider => {
            Decision::Unknown { why: format!("there is no tool `{shown}`") }
        }
        Standing::NoSuchTool(tools) => Decision::Unknown {
            why: format!(
                "there is no tool `{shown}`; its provider has {}",
                quoted(tools.iter().copied())
            ),
        },
        _ if !asked => Decision::Denied {
            why: format!("the manifest does not ask for `{shown}`; name it under `tools`"),
        },
        Standing::NotGranted(kind) => Decision::Denied {
            why: format!(
                "the operator grants no `{kind}`; ask for `--grant {kind}={value}`",
                kind = kind.name,
                value = kind.flag_value
            ),
        },
        Standing::Granted => Decision::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::kind;

    #[test]
    fn a_granted_tool_that_the_manifest_asks_for_is_allowed() {
        assert_eq!(decide("files.read", true, Standing::Granted), Decision::Allowed);
    }

    #[test]
    fn a_denial_says_who_has_to_act() {
        let files = Standing::NotGranted(kind("files").unwrap());
        let denied = |asked, standing| match decide("files.read", asked, standing) {
            Decision::Denied { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            denied(false, Standing::Granted),
            "the manifest does not ask for `files.read`; name it under `tools`"
        );
        assert_eq!(denied(false, files), denied(false, Standing::Granted));
        assert_eq!(
            denied(true, files),
            "the operator grants no `files`; ask for `--grant files=DIR`"
        );
    }

    #[test]
    fn what_does_not_exist_is_unknown_even_if_asked_for() {
        for asked in [false, true] {
            assert_eq!(
                decide("web.get", asked, Standing::NoSuchProvider),
                Decision::Unknown { why: "there is no tool `web.get`".into() }
            );
            assert_eq!(
                decide("files.grep", asked, Standing::NoSuchTool(&["files.list", "files.read"])),
                Decision::Unknown {
                    why:
                        "there is no tool `files.grep`; its provider has `files.list`, `files.read`"
                            .into()
                }
            );
        }
    }

    #[test]
    fn a_message_repeats_only_the_start_of_a_long_name() {
        let Decision::Unknown { why } = decide(&"ü".repeat(10_000), true, Standing::NoSuchProvider)
        else {
            panic!("known")
        };
        assert!(why.len() < 300, "{}", why.len());
    }
}
