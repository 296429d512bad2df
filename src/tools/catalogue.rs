//! The tools that a host has, and the part of them that a run gets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::call::{RunTools, Tool, ToolLimits, error};
use super::policy::{Decision, Policy, Standing, decide};
use super::vault::Vault;
use super::{
    Grant, OpenError, Opening, Provider, ToolError, ToolErrorCode, ToolSpec, kind, kind_names,
};
use crate::revision::{Limits, Revision};

/// Why a grant cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("there is no provider `{name}` to grant, only {}", kind_names())]
    UnknownKind { name: String },
    #[error("cannot grant `{name}`{}: {cause}", from_file(file))]
    Open { name: String, file: Option<PathBuf>, cause: OpenError },
    /// The provider describes a tool that cannot be offered to anybody.
    #[error("cannot grant `{name}`: its tool `{tool}` {problem}")]
    Tool { name: String, tool: String, problem: String },
}

impl GrantError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { name, file: None, cause } => {
                // A flag that only names a file with servers is seldom what is wrong.
                let in_file = |many| many && matches!(cause, OpenError::Other(_));
                let kind = kind(name).filter(|kind| !in_file(kind.many))?;
                Some(format!("grant it as `--grant {name}={}`", kind.flag_value))
            }
            _ => None,
        }
    }
}

fn from_file(file: &Option<PathBuf>) -> String {
    file.as_ref().map(|file| format!(" of `{}`", file.display())).unwrap_or_default()
}

/// Every tool of every granted provider. Cheap to clone.
#[derive(Clone, Default)]
pub struct Catalogue {
    /// By provider, then by full name.
    providers: Arc<BTreeMap<String, BTreeMap<String, Arc<Tool>>>>,
    /// The kind that opened each provider, where that has another name.
    kinds: Arc<BTreeMap<String, &'static str>>,
    vault: Vault,
}

impl Catalogue {
    /// Opens what is granted, of providers that somebody wants. Keys are the
    /// names of kinds.
    pub async fn open(
        grants: &BTreeMap<String, Grant>,
        vault: Vault,
        wanted: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> Result<Self, GrantError> {
        let opening = Opening { vault: &vault, wanted };
        let (mut providers, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for (name, grant) in grants {
            let kind = kind(name).ok_or_else(|| GrantError::UnknownKind { name: name.clone() })?;
            let failed = |cause| GrantError::Open {
                name: name.clone(),
                file: match grant {
                    Grant::Flag(_) => None,
                    Grant::Table { file, .. } => Some(file.clone()),
                },
                cause,
            };
            for (provider, opened) in (kind.open)(grant, &opening).await.map_err(failed)? {
                kinds.insert(provider.clone(), kind.name);
                if providers.insert(provider.clone(), opened).is_some() {
                    let why = format!("there is another provider of the name `{provider}`");
                    return Err(failed(OpenError::Other(why)));
                }
            }
        }
        Ok(Self { kinds: Arc::new(kinds), vault: vault.clone(), ..Self::of(providers)? })
    }

    /// A catalogue of providers that are already open, for hosts that bring
    /// their own. A provider's tools are named `PROVIDER.…`.
    pub fn of(providers: BTreeMap<String, Arc<dyn Provider>>) -> Result<Self, GrantError> {
        let mut all = BTreeMap::new();
        for (name, provider) in providers {
            let mut tools = BTreeMap::new();
            for spec in provider.tools() {
                let tool = Tool::new(&name, spec, provider.clone())?;
                tools.insert(tool.spec().name.clone(), Arc::new(tool));
            }
            all.insert(name, tools);
        }
        Ok(Self { providers: Arc::new(all), ..Self::default() })
    }

    /// The secrets that are kept out of what tools answer.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// All tools, by name in alphabetical order.
    pub fn specs(&self) -> Vec<&ToolSpec> {
        let mut specs: Vec<_> = self.tools().map(|tool| tool.spec()).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        specs
    }

    /// What a run gets whose manifest asks for the tools that `asks` is true of.
    pub fn for_run(
        &self,
        asks: impl Fn(&str) -> bool + Send + Sync + 'static,
        limits: ToolLimits,
    ) -> RunTools {
        RunTools::new(self.clone(), Arc::new(asks), limits)
    }

    /// What a run of `revision` gets that has these limits and is under this policy.
    pub fn for_revision(
        &self,
        revision: &Arc<Revision>,
        limits: &Limits,
        policy: impl Into<Arc<Policy>>,
    ) -> RunTools {
        let asking = Arc::clone(revision);
        let asks = move |name: &str| asking.manifest.asks_for(name);
        self.for_run(asks, ToolLimits::from(limits))
            .with_needs(revision.manifest.needs.clone())
            .with_policy(policy)
    }

    pub(super) fn has_provider(&self, name: &str) -> bool {
        self.providers.contains_key(name)
    }

    /// The kind of the provider before the dot.
    pub(super) fn kind_of<'a>(&'a self, provider: &'a str) -> &'a str {
        self.kinds.get(provider).copied().unwrap_or(provider)
    }

    pub(super) fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.providers.values().flat_map(BTreeMap::values)
    }

    /// The tool of that name, if a run may call it whose manifest asks for it or
    /// not and that is under this policy.
    pub(super) fn find(
        &self,
        name: &str,
        asked: bool,
        policy: &Policy,
    ) -> Result<Arc<Tool>, ToolError> {
        let provider = name.split_once('.').map_or(name, |(provider, _)| provider);
        let tools = self.providers.get(provider);
        let tool = tools.and_then(|tools| tools.get(name));
        let others: Vec<&str>;
        let standing = match (tool, tools) {
            (Some(_), _) if !policy.names(self.kind_of(provider), name) => Standing::NotNamed,
            (Some(_), _) if policy.forbids(name) => Standing::Forbidden,
            (Some(_), _) => Standing::Granted,
            (None, Some(tools)) => {
                others = tools.keys().map(String::as_str).collect();
                Standing::NoSuchTool(&others)
            }
            (None, None) => kind(provider).map_or(Standing::NoSuchProvider, Standing::NotGranted),
        };
        match (decide(name, asked, standing), tool) {
            (Decision::Allowed, Some(tool)) => Ok(tool.clone()),
            (Decision::Denied { why }, _) => Err(error(ToolErrorCode::Denied, why)),
            (Decision::Unknown { why }, _) => Err(error(ToolErrorCode::UnknownTool, why)),
            (Decision::Allowed, None) => unreachable!("what is allowed stands as granted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use serde_json::{Value, json};

    use super::*;
    use crate::tools::{CallContext, Success};

    fn open(name: &str, grant: Grant) -> Result<Catalogue, GrantError> {
        let grants = BTreeMap::from([(name.to_owned(), grant)]);
        let opened = Catalogue::open(&grants, Vault::default(), &|_| true).now_or_never();
        opened.expect("a folder opens at once")
    }

    fn refusal(name: &str, grant: Grant) -> GrantError {
        open(name, grant).err().expect("it opened")
    }

    #[test]
    fn an_unknown_provider_is_told_which_there_are() {
        let error = refusal("web", Grant::Flag("x".into())).to_string();
        let expected = format!("there is no provider `web` to grant, only {}", kind_names());
        assert_eq!(error, expected);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none").display().to_string();
        let error = refusal("files", Grant::Flag(missing.clone()));
        let start = format!("cannot grant `files`: cannot open `{missing}`: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(error.hint().unwrap(), "grant it as `--grant files=DIR`");
    }

    #[test]
    fn a_table_is_relative_to_its_file_and_named_with_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("docs")).unwrap();
        let file = folder.path().join("reenact.toml");
        let table = |text: &str| Grant::Table { table: text.parse().unwrap(), file: file.clone() };
        assert_eq!(open("files", table("root = 'docs'")).unwrap().specs().len(), 3);
        for (text, cause) in [
            ("", "missing field `root`"),
            ("root = 5", "invalid type: integer `5`, expected a string"),
            (
                "root = 'docs'\nurl = 'docs.org'",
                "`url` is `docs.org`, but must start with `https://` or `http://` and end with `/`",
            ),
        ] {
            let expected = format!("cannot grant `files` of `{}`: {cause}", file.display());
            assert_eq!(refusal("files", table(text)).to_string(), expected);
        }
    }

    struct One(ToolSpec);

    impl Provider for One {
        fn tools(&self) -> Vec<ToolSpec> {
            vec![self.0.clone()]
        }

        fn call(
            &self,
            _: &str,
            _: Value,
            _: CallContext,
        ) -> BoxFuture<'static, Result<Success, ToolError>> {
            unreachable!()
        }
    }

    #[test]
    fn a_tool_that_cannot_be_offered_is_refused() {
        let of = |name: &str, parameters| {
            let spec = ToolSpec {
                name: name.into(),
                description: String::new(),
                parameters,
                read_only: true,
                idempotent: true,
            };
            let provider: Arc<dyn Provider> = Arc::new(One(spec));
            Catalogue::of(BTreeMap::from([("one".to_owned(), provider)]))
        };
        assert!(of("one.tool", json!({})).is_ok());
        for (name, parameters) in [
            ("tool", json!({})),
            ("two.tool", json!({})),
            ("one.", json!({})),
            ("one.tool", json!({ "type": "strin" })),
            ("one.tool", json!({ "$ref": "https://example.com/schema" })),
            // Look-around has no linear-time implementation.
            ("one.tool", json!({ "pattern": "(?=a)b" })),
        ] {
            let error = of(name, parameters.clone()).err();
            assert!(matches!(error, Some(GrantError::Tool { .. })), "{name} {parameters}");
        }
    }
}
