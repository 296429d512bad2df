//! What the operator grants: providers with their keys, models, prices, retries.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::adapter::Adapter;
use super::price::{Price, micros};
use crate::tools::{Grant, OpenError, Vault, quoted};

/// Further attempts unless the operator says otherwise.
const RETRIES: u32 = 4;
/// More would only hide that a provider is down.
const MAX_RETRIES: u32 = 10;
const RETRY_MS: u64 = 500;
const MAX_RETRY_MS: u64 = 60_000;

/// The table `[grants.model]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    default: Option<String>,
    models: Option<Vec<String>>,
    #[serde(default)]
    providers: BTreeMap<String, ProviderTable>,
    #[serde(default)]
    prices: BTreeMap<String, PriceTable>,
    #[serde(default = "retries")]
    retries: u32,
    #[serde(default = "retry_ms")]
    retry_ms: u64,
}

fn retries() -> u32 {
    RETRIES
}

fn retry_ms() -> u64 {
    RETRY_MS
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderTable {
    adapter: Option<String>,
    base_url: Option<String>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceTable {
    input: toml::Value,
    output: toml::Value,
}

/// `PROVIDER:MODEL`; at its end `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn matches(&self, model: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == self.0,
        }
    }

    fn is_exact(&self) -> bool {
        !self.0.ends_with('*')
    }
}

/// A provider that can be reached.
#[derive(Debug)]
pub(super) struct Provider {
    pub adapter: Adapter,
    /// Ends with `/`.
    pub base_url: Url,
    /// The header with the key. It is marked as sensitive, so nothing shows it.
    pub key: Option<(HeaderName, HeaderValue)>,
}

/// A model that a call may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model<'a> {
    /// `PROVIDER:MODEL`.
    pub id: &'a str,
    /// What the provider calls it.
    pub name: &'a str,
    pub provider: &'a Provider,
    pub price: Option<Price>,
}

#[derive(Debug)]
pub(super) struct Settings {
    default: Option<String>,
    allowed: Vec<Pattern>,
    providers: BTreeMap<String, Provider>,
    /// The longest pattern first.
    prices: Vec<(Pattern, Price)>,
    pub retries: u32,
    pub retry: Duration,
}

impl Settings {
    pub fn open(grant: &Grant, vault: &Vault) -> Result<Self, OpenError> {
        let table = match grant {
            Grant::Flag(model) => Table {
                default: (!model.ends_with('*')).then(|| model.clone()),
                models: Some(vec![model.clone()]),
                providers: BTreeMap::new(),
                prices: BTreeMap::new(),
                retries: RETRIES,
                retry_ms: RETRY_MS,
            },
            Grant::Table { table, .. } => table.clone().try_into().map_err(Box::new)?,
        };
        Self::of(table, vault)
    }

    fn of(mut table: Table, vault: &Vault) -> Result<Self, OpenError> {
        let value =
            |key, value: u64, must| OpenError::Value { key, value: value.to_string(), must };
        if table.retries > MAX_RETRIES {
            return Err(value("retries", table.retries.into(), "be from 0 to 10"));
        }
        if !(1..=MAX_RETRY_MS).contains(&table.retry_ms) {
            return Err(value("retry_ms", table.retry_ms, "be from 1 to 60000"));
        }
        // The providers that everybody knows need no table of their own.
        let named = table.models.iter().flatten().chain(&table.default);
        for provider in named.filter_map(|id| id.split_once(':')).map(|(provider, _)| provider) {
            if Adapter::of(provider).is_some() && !table.providers.contains_key(provider) {
                table.providers.insert(provider.to_owned(), ProviderTable::default());
            }
        }
        let mut providers = BTreeMap::new();
        for (name, provider) in table.providers {
            let opened = Provider::open(&name, provider, vault)?;
            providers.insert(name, opened);
        }
        let allowed = match table.models {
            Some(models) => models
                .into_iter()
                .map(|id| pattern("models", id, &providers))
                .collect::<Result<_, _>>()?,
            None => providers.keys().map(|name| Pattern(format!("{name}:*"))).collect::<Vec<_>>(),
        };
        if allowed.is_empty() {
            let why = "it allows no model: name a `default`, `models` or `providers`";
            return Err(OpenError::Other(why.to_owned()));
        }
        let default = match table.default {
            Some(id) => Some(check_default(pattern("default", id, &providers)?, &allowed)?),
            None if allowed.len() == 1 && allowed[0].is_exact() => Some(allowed[0].0.clone()),
            None => None,
        };
        let prices = prices(table.prices, &providers)?;
        let retry = Duration::from_millis(table.retry_ms);
        Ok(Self { default, allowed, providers, prices, retries: table.retries, retry })
    }

    /// The model that a call means by `id`, if it may use it.
    pub fn model<'a>(&'a self, id: Option<&'a str>) -> Result<Model<'a>, String> {
        let Some(id) = id.or(self.default.as_deref()) else {
            return Err(format!(
                "`model` must be given, because there is no default: {}",
                self.choice()
            ));
        };
        let refused = || format!("the model `{id}` is not granted, only {}", self.choice());
        let (provider, name) = id.split_once(':').ok_or_else(refused)?;
        let provider = self.providers.get(provider).ok_or_else(refused)?;
        if !self.allowed.iter().any(|pattern| pattern.matches(id)) {
            return Err(refused());
        }
        if !is_name(name, provider.adapter) {
            return Err(format!("`{id}` cannot be the name of a model"));
        }
        let price = self.prices.iter().find(|(pattern, _)| pattern.matches(id));
        Ok(Model { id, name, provider, price: price.map(|(_, price)| *price) })
    }

    fn choice(&self) -> String {
        quoted(self.allowed.iter().map(|pattern| pattern.0.as_str()))
    }
}

/// Whether a model can have that name. Gemini's API has it in the path of the
/// request's address, where it must not lead to anything else.
fn is_name(name: &str, adapter: Adapter) -> bool {
    let marks = if adapter == Adapter::Gemini { "._-" } else { "._-:/@+" };
    (1..=200).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
        && !name.starts_with('.')
}

impl Provider {
    fn open(name: &str, table: ProviderTable, vault: &Vault) -> Result<Self, OpenError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            let must = "be letters, digits, `-` and `_`";
            return Err(OpenError::Value { key: "providers", value: name.to_owned(), must });
        }
        let adapter = table.adapter.as_deref().unwrap_or(name);
        let adapter = Adapter::of(adapter).ok_or_else(|| {
            let known = quoted(Adapter::ALL.map(Adapter::name));
            OpenError::Other(format!(
                "the provider `{name}` has the adapter `{adapter}`, but there are only {known}"
            ))
        })?;
        // A server of the operator's own gets no key that was not meant for it.
        let key = table.key.as_deref().or(match table.base_url {
            Some(_) => None,
            None => adapter.key_name(),
        });
        let key = key.map(|key| header(adapter, key, vault)).transpose()?;
        let base_url = match &table.base_url {
            Some(url) => base_url(url)?,
            None => adapter.base_url().parse().expect("a constant address"),
        };
        Ok(Self { adapter, base_url, key })
    }
}

/// The secret of that name as the header that carries it.
fn header(
    adapter: Adapter,
    name: &str,
    vault: &Vault,
) -> Result<(HeaderName, HeaderValue), OpenError> {
    let secret = vault.get(name)?;
    // Whoever reads a key from a file gets the line's end with it. What is sent is
    // what must be scrubbed from answers.
    let key = vault.remember(secret.reveal().trim().to_owned());
    let (header, before) = adapter.key_header();
    let mut value = HeaderValue::from_str(&format!("{before}{}", key.reveal())).map_err(|_| {
        OpenError::Other(format!("the secret `{name}` holds characters that no key has"))
    })?;
    value.set_sensitive(true);
    Ok((header, value))
}

fn base_url(written: &str) -> Result<Url, OpenError> {
    let refused = || OpenError::Value {
        key: "base_url",
        // It may hold a password.
        value: written.split('@').next_back().unwrap_or_default().to_owned(),
        must: "be an address with `http://` or `https://`, without a user, `?` and `#`",
    };
    let mut url: Url = written.parse().map_err(|_| refused())?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
        return Err(refused());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn pattern(
    key: &'static str,
    id: String,
    providers: &BTreeMap<String, Provider>,
) -> Result<Pattern, OpenError> {
    let must = "be `PROVIDER:MODEL`; `*` may stand at its end only";
    let (provider, model) = match id.split_once(':') {
        Some((provider, model)) if !model.is_empty() => (provider, model),
        _ => return Err(OpenError::Value { key, value: id, must }),
    };
    let name = model.strip_suffix('*').unwrap_or(model);
    let Some(known) = providers.get(provider) else {
        let known = quoted(providers.keys().map(String::as_str));
        let known = if known.is_empty() { "none".to_owned() } else { known };
        return Err(OpenError::Other(format!(
            "`{key}` names the provider `{provider}`, but `[grants.model.providers]` has {known}"
        )));
    };
    if !name.is_empty() && !is_name(name, known.adapter) {
        return Err(OpenError::Value { key, value: id, must });
    }
    Ok(Pattern(id))
}

fn check_default(default: Pattern, allowed: &[Pattern]) -> Result<String, OpenError> {
    let refused = |must| Err(OpenError::Value { key: "default", value: default.0.clone(), must });
    if !default.is_exact() {
        return refused("be one model");
    }
    if !allowed.iter().any(|pattern| pattern.matches(&default.0)) {
        return refused("be one that `models` allows");
    }
    Ok(default.0)
}

fn prices(
    tables: BTreeMap<String, PriceTable>,
    providers: &BTreeMap<String, Provider>,
) -> Result<Vec<(Pattern, Price)>, OpenError> {
    let mut prices = Vec::new();
    for (id, table) in tables {
        let read = |value| {
            micros(value).map_err(|cause| OpenError::Other(format!("`prices.\"{id}\"`: {cause}")))
        };
        let price = Price { input: read(&table.input)?, output: read(&table.output)? };
        prices.push((pattern("prices", id, providers)?, price));
    }
    prices.sort_by_key(|(pattern, _)| std::cmp::Reverse((pattern.is_exact(), pattern.0.len())));
    Ok(prices)
}

#[cfg(test)]
mod tests;
