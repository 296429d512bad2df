//! Whether a run may call a tool: pure decisions with reasons.
//!
//! A tool is granted if the manifest asks for it *and* the operator grants its
//! provider *and* the run's own `--grant` flags, if there are any, name it. What
//! the operator's [`Policy`] says about its calls is settled with that, and
//! recorded; [`judge`] holds each call against it. A reason tells the agent's
//! author what to do next.

use serde_json::Value;

use super::{Kind, clip, quoted};
use crate::journal::{Action, Rule};
use crate::json::Json;
use crate::revision::{Schema, ToolPattern};

/// How long a person has to answer, if no rule says otherwise: a day.
pub const ASK_TIMEOUT_MS: u64 = 24 * 3_600_000;

/// A guest may pass a name of any length; a message repeats this much of it.
const SHOWN_NAME_BYTES: usize = 200;

/// What this host has under a tool's name.
#[derive(Clone, Copy)]
pub enum Standing<'a> {
    /// A granted provider has the tool.
    Granted,
    /// The provider is granted, but has only these tools.
    NoSuchTool(&'a [&'a str]),
    /// A granted provider has the tool, but the run's `--grant` flags name others.
    NotNamed,
    /// A granted provider has the tool, but the operator's policy denies every call.
    Forbidden,
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
        Standing::NotNamed => Decision::Denied {
            why: format!("this run's `--grant` flags name other tools than `{shown}`"),
        },
        Standing::Forbidden => {
            Decision::Denied { why: format!("the operator's policy denies `{shown}`") }
        }
        Standing::Granted => Decision::Allowed,
    }
}

/// What the operator says about calls of granted tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// In the order of the configuration: of those that fit, the first decides.
    pub rules: Vec<(ToolPattern, Rule)>,
    /// The only tools that this run may have; `None` for all.
    pub only: Option<Vec<Named>>,
}

/// What one `--grant` flag leaves in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// All providers of a kind.
    Kind(String),
    Tools(ToolPattern),
}

impl Policy {
    /// The rules that speak of the tool.
    pub fn rules_of(&self, tool: &str) -> Vec<Rule> {
        let speaks = |(pattern, _): &&(ToolPattern, Rule)| pattern.matches(tool);
        self.rules.iter().filter(speaks).map(|(_, rule)| rule.clone()).collect()
    }

    /// Whether the run's own flags leave the tool in.
    pub fn names(&self, kind: &str, tool: &str) -> bool {
        let leaves = |named: &Named| match named {
            Named::Kind(name) => name == kind,
            Named::Tools(pattern) => pattern.matches(tool),
        };
        self.only.as_ref().is_none_or(|only| only.iter().any(leaves))
    }

    /// Whether no call of the tool can be allowed, whatever its arguments.
    pub fn forbids(&self, tool: &str) -> bool {
        let rules = self.rules_of(tool);
        // What comes after a rule that holds for all calls is never reached.
        let all = rules.iter().position(|rule| rule.when.is_none());
        let reached = &rules[..all.map_or(rules.len(), |at| at + 1)];
        !reached.is_empty() && reached.iter().all(|rule| rule.action == Action::Deny)
    }
}

/// What the rules of a tool say about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Allow,
    Ask { timeout_ms: u64 },
    Deny { why: String },
}

/// Holds a call's arguments against the rules of its tool. The first that fits
/// decides. A tool without rules is allowed; one that has some, and none that
/// fits, is not.
pub fn judge(tool: &str, rules: &[Rule], arguments: &Value) -> Judgement {
    let fits = |rule: &&Rule| rule.when.as_ref().is_none_or(|when| holds(when, arguments));
    match rules.iter().find(fits) {
        None if rules.is_empty() => Judgement::Allow,
        None => Judgement::Deny {
            why: format!("no rule of the operator's policy allows `{tool}` with these arguments"),
        },
        Some(Rule { action: Action::Allow, .. }) => Judgement::Allow,
        Some(Rule { action: Action::Ask, timeout_ms, .. }) => {
            Judgement::Ask { timeout_ms: timeout_ms.unwrap_or(ASK_TIMEOUT_MS) }
        }
        Some(Rule { action: Action::Deny, .. }) => Judgement::Deny {
            why: format!("the operator's policy denies `{tool}` with these arguments"),
        },
    }
}

/// Whether the arguments fit a rule's schema. It was compiled when the
/// configuration was read; one that a damaged record made unusable fits nothing.
fn holds(when: &Json, arguments: &Value) -> bool {
    Schema::compile(&when.to_value()).is_ok_and(|schema| schema.check(arguments).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::kind;

    fn rule(action: Action, when: Option<Value>) -> Rule {
        Rule { action, when: when.map(|when| Json::from_value(&when)), timeout_ms: None }
    }

    fn policy(rules: &[(&str, Action, Option<Value>)]) -> Policy {
        let rules = rules
            .iter()
            .map(|(tool, action, when)| (tool.parse().unwrap(), rule(*action, when.clone())));
        Policy { rules: rules.collect(), only: None }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let get = json!({ "properties": { "method": { "const": "GET" } }, "required": ["method"] });
        let policy = policy(&[
            ("http.fetch", Action::Allow, Some(get)),
            ("http.*", Action::Ask, Some(json!({ "required": ["method"] }))),
        ]);
        let rules = policy.rules_of("http.fetch");
        let judged = |arguments| judge("http.fetch", &rules, &arguments);
        assert_eq!(judged(json!({ "method": "GET" })), Judgement::Allow);
        let timeout_ms = ASK_TIMEOUT_MS;
        assert_eq!(judged(json!({ "method": "PUT" })), Judgement::Ask { timeout_ms });
        let Judgement::Deny { why } = judged(json!({})) else { panic!("nothing fits, so denied") };
        assert!(why.contains("no rule"), "{why}");
        assert_eq!(
            judge("files.read", &policy.rules_of("files.read"), &json!({})),
            Judgement::Allow
        );
    }

    #[test]
    fn a_tool_is_forbidden_if_no_call_of_it_can_be_allowed() {
        let some = || Some(json!({ "required": ["x"] }));
        let forbids = |rules: &[_]| policy(rules).forbids("a.b");
        assert!(forbids(&[("a.*", Action::Deny, None)]));
        assert!(forbids(&[("a.b", Action::Deny, some())]));
        assert!(forbids(&[("a.b", Action::Deny, None), ("a.b", Action::Allow, None)]));
        assert!(!forbids(&[("a.b", Action::Ask, some()), ("a.b", Action::Deny, None)]));
        assert!(!forbids(&[("b.*", Action::Deny, None)]));
    }

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
