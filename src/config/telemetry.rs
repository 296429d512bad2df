//! `[telemetry]`: where traces of runs go.
//!
//! ```toml
//! [telemetry]
//! otlp = "http://localhost:4318"                    # OTLP over HTTP, protobuf
//! headers = { authorization = "Bearer ${TOKEN}" }
//! contents = true                                   # what agents read and wrote, too
//! ```
//!
//! Without `otlp` the variables of OpenTelemetry count: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
//! else OTEL_EXPORTER_OTLP_ENDPOINT. With neither, and where OTEL_SDK_DISABLED is `true`,
//! nothing is exported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::{Config, ConfigError};
use crate::tools::{Secret, Vault};

/// Where OTLP over HTTP takes traces, below a collector's address.
const TRACES: &str = "/v1/traces";

/// What export of traces needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Where traces are posted, in full.
    pub endpoint: Url,
    /// Added to every request; they hold no character that a header cannot.
    pub headers: Vec<(String, Secret)>,
    /// Whether input, output, arguments and answers are exported.
    pub contents: bool,
}

/// The table `[telemetry]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelemetryToml {
    /// A collector, without the path of its signal.
    otlp: Option<String>,
    /// May name secrets, as `${NAME}`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    contents: bool,
    /// Where it is written.
    #[serde(skip)]
    file: PathBuf,
}

impl TelemetryToml {
    pub(super) fn of(mut self, file: &Path) -> Self {
        self.file = file.to_owned();
        self
    }

    fn resolve(&self, vault: &Vault) -> Result<Option<TelemetrySettings>, String> {
        if vault.lookup("OTEL_SDK_DISABLED").is_some_and(|is| is.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let collector = |text: &str, named: &str| {
            let bad = |cause: &str| format!("`{named}` is `{text}`, but must be a URL of {cause}");
            let mut url = Url::parse(text).map_err(|_| bad("`http` or `https`"))?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err(bad("`http` or `https`"));
            }
            if !url.path().ends_with(TRACES) {
                url.set_path(&format!("{}{TRACES}", url.path().trim_end_matches('/')));
            }
            Ok(url)
        };
        let (general, signal) =
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let endpoint = if let Some(text) = &self.otlp {
            collector(text, "telemetry.otlp")?
        } else if let Some(text) = vault.lookup(signal) {
            Url::parse(&text).map_err(|cause| format!("{signal} is no URL: {cause}"))?
        } else if let Some(text) = vault.lookup(general) {
            collector(&text, general)?
        } else {
            return Ok(None);
        };
        let header = |(name, value): (&String, &String)| {
            let value = vault
                .expand(value)
                .map_err(|cause| format!("for the header `{name}` of `[telemetry]` {cause}"))?;
            let is_header =
                HeaderName::try_from(name).is_ok() && HeaderValue::from_str(value.reveal()).is_ok();
            if !is_header {
                return Err(format!("`{name}` of `telemetry.headers` cannot be a header"));
            }
            Ok((name.clone(), value))
        };
        let headers = self.headers.iter().map(header).collect::<Result<_, _>>()?;
        Ok(Some(TelemetrySettings { endpoint, headers, contents: self.contents }))
    }
}

impl Config {
    /// Where traces go, with the secrets that takes from `vault`; `None` if nowhere.
    pub fn telemetry(&self, vault: &Vault) -> Result<Option<TelemetrySettings>, ConfigError> {
        let path = || self.telemetry.file.clone();
        let error = |problem| ConfigError::Telemetry { path: path(), problem };
        self.telemetry.resolve(vault).map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        text: &str,
        secrets: &[(&str, &str)],
    ) -> Result<Option<TelemetrySettings>, ConfigError> {
        let secrets = secrets.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let config = Config::parse(text, Path::new("reenact.toml")).unwrap();
        config.telemetry(&Vault::new(secrets.collect()))
    }

    fn endpoint(text: &str, secrets: &[(&str, &str)]) -> Option<String> {
        settings(text, secrets).unwrap().map(|settings| settings.endpoint.to_string())
    }

    #[test]
    fn the_file_comes_before_the_variables_and_without_both_nothing_is_exported() {
        let file = "[telemetry]\notlp = 'http://here:4318'";
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4318/base/");
        let signal = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://signal:4318/own");
        assert_eq!(endpoint("", &[]), None);
        assert_eq!(endpoint(file, &[general]).unwrap(), "http://here:4318/v1/traces");
        assert_eq!(endpoint("", &[general]).unwrap(), "http://general:4318/base/v1/traces");
        assert_eq!(endpoint("", &[general, signal]).unwrap(), "http://signal:4318/own");
        assert_eq!(endpoint(file, &[("OTEL_SDK_DISABLED", "true")]), None);
        let whole = "[telemetry]\notlp = 'https://x.org/v1/traces'";
        assert_eq!(endpoint(whole, &[]).unwrap(), "https://x.org/v1/traces");
    }

    #[test]
    fn headers_may_hold_secrets_that_nobody_sees() {
        let text = "[telemetry]\notlp = 'http://x'\nheaders = { authorization = 'Bearer ${T}' }";
        let found = settings(text, &[("T", "canary")]).unwrap().unwrap();
        assert_eq!(found.headers[0].1.reveal(), "Bearer canary");
        assert!(!format!("{found:?}").contains("canary"));
        assert!(!found.contents);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            (
                "otlp = 'localhost:4318'",
                "`telemetry.otlp` is `localhost:4318`, but must be a URL of `http` or `https`",
            ),
            (
                "otlp = 'http://x'\nheaders = { a = '${NO_SUCH_SECRET}' }",
                "for the header `a` of `[telemetry]` there is no secret `NO_SUCH_SECRET`: neither `[secrets]` nor the environment has it",
            ),
            (
                "otlp = 'http://x'\nheaders = { 'a b' = 'c' }",
                "`a b` of `telemetry.headers` cannot be a header",
            ),
        ] {
            let error = settings(&format!("[telemetry]\n{text}"), &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("`reenact.toml`: {message}"));
        }
    }
}
