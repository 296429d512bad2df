//! What the operator grants: the table `[grants.http]`, or the hosts of
//! `--grant http=HOST,…`, checked and ready to use.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::address::Addresses;
use super::headers::is_transport;
use super::hosts::{HostPattern, Hosts, InvalidHost};
use crate::tools::{Grant, OpenError, Vault};

pub const KEYS: &[&str] =
    &["hosts", "allow_addresses", "schemes", "max_bytes", "timeout_ms", "headers", "ca_file"];

/// Bytes of a body that are answered unless the operator says otherwise: a long
/// page, and as base64 still well within the default of `answer_bytes`.
const DEFAULT_MAX_BYTES: u64 = 1 << 20;
/// The highest `answer_bytes` that a run can have.
const CEILING_MAX_BYTES: u64 = 64 << 20;
const DEFAULT_TIMEOUT_MS: u64 = 30_000;
/// The highest `tool_timeout_ms` that a run can have.
const CEILING_TIMEOUT_MS: u64 = 86_400_000;
/// A bundle of all authorities that browsers trust has a quarter of it.
const MAX_CA_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    hosts: Vec<String>,
    #[serde(default)]
    allow_addresses: Vec<String>,
    schemes: Option<Vec<Scheme>>,
    max_bytes: Option<u64>,
    timeout_ms: Option<u64>,
    #[serde(default)]
    headers: BTreeMap<String, BTreeMap<String, String>>,
    ca_file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Https,
    Http,
}

impl Scheme {
    const ALL: [Self; 2] = [Self::Https, Self::Http];

    fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// A grant of `http`.
pub struct Settings {
    pub hosts: Hosts,
    pub addresses: Addresses,
    schemes: Vec<Scheme>,
    pub max_bytes: usize,
    pub timeout: Duration,
    /// Narrower entries first.
    injected: Vec<Injected>,
    /// Authorities that are trusted besides the system's.
    pub authorities: Vec<Certificate>,
}

/// Headers that the host adds to requests to some hosts.
struct Injected {
    scheme: Scheme,
    host: HostPattern,
    headers: HeaderMap,
}

impl Settings {
    /// Reads a grant. Secrets are looked up only if the tools are `wanted`.
    pub fn of(grant: &Grant, vault: &Vault, wanted: bool) -> Result<Self, OpenError> {
        let (table, base) = match grant {
            Grant::Flag(hosts) => (Table::of_flag(hosts), Path::new("")),
            Grant::Table { table, file } => {
                let table = table.clone().try_into().map_err(Box::new)?;
                (table, file.parent().unwrap_or(Path::new("")))
            }
        };
        let hosts = Hosts::parse(table.hosts.iter().map(String::as_str)).map_err(bad_host)?;
        if hosts.is_empty() {
            return Err(value("hosts", "[]", "name the hosts that are granted"));
        }
        let schemes = table.schemes.unwrap_or_else(|| Scheme::ALL.to_vec());
        if schemes.is_empty() {
            return Err(value("schemes", "[]", "hold `https` or `http`"));
        }
        let max_bytes = table.max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        if !(1..=CEILING_MAX_BYTES).contains(&max_bytes) {
            return Err(value("max_bytes", &max_bytes.to_string(), "be from 1 to 67108864"));
        }
        let timeout_ms = table.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !(1..=CEILING_TIMEOUT_MS).contains(&timeout_ms) {
            return Err(value("timeout_ms", &timeout_ms.to_string(), "be from 1 to 86400000"));
        }
        let authorities = match table.ca_file {
            Some(file) => read_authorities(&base.join(file))?,
            None => Vec::new(),
        };
        Ok(Self {
            hosts,
            addresses: Addresses::parse(&table.allow_addresses)?,
            schemes,
            max_bytes: max_bytes as usize,
            timeout: Duration::from_millis(timeout_ms),
            injected: read_injected(table.headers, wanted.then_some(vault))?,
            authorities,
        })
    }

    pub fn allows_scheme(&self, url: &Url) -> bool {
        self.schemes.iter().any(|scheme| scheme.name() == url.scheme())
    }

    /// The granted schemes, as errors list them.
    pub fn scheme_names(&self) -> String {
        crate::tools::quoted(self.schemes.iter().map(|scheme| scheme.name()))
    }

    /// The headers that the host adds to a request of this URL. They are not
    /// the agent's to see or to set.
    pub fn injected(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for entry in &self.injected {
            if entry.scheme.name() == url.scheme() && entry.host.covers(url) {
                for (name, value) in &entry.headers {
                    headers.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        headers
    }
}

impl Table {
    fn of_flag(hosts: &str) -> Self {
        Self {
            hosts: hosts.split(',').map(|host| host.trim().to_owned()).collect(),
            allow_addresses: Vec::new(),
            schemes: None,
            max_bytes: None,
            timeout_ms: None,
            headers: BTreeMap::new(),
            ca_file: None,
        }
    }
}

fn value(key: &'static str, value: &str, must: &'static str) -> OpenError {
    OpenError::Value { key, value: value.to_owned(), must }
}

fn bad_host(cause: InvalidHost) -> OpenError {
    OpenError::Other(format!("in `hosts`, {cause}"))
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>, OpenError> {
    let cannot = |cause| OpenError::Path { path: path.to_owned(), cause };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut pem = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_CA_BYTES + 1), &mut pem)
        .map_err(cannot)?;
    let none = || {
        let must = "name a file of certificates in PEM form, of 1 MiB at most";
        value("ca_file", &path.display().to_string(), must)
    };
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|_| none())?;
    if authorities.is_empty() || pem.len() as u64 > MAX_CA_BYTES {
        return Err(none());
    }
    Ok(authorities)
}

/// Without a vault, entries are checked but secrets are left alone.
fn read_injected(
    table: BTreeMap<String, BTreeMap<String, String>>,
    vault: Option<&Vault>,
) -> Result<Vec<Injected>, OpenError> {
    let mut injected = Vec::new();
    for (key, members) in table {
        // A secret goes over an encrypted connection, unless the operator says otherwise.
        let (scheme, host) = match key.strip_prefix("http://") {
            Some(host) => (Scheme::Http, host),
            None => (Scheme::Https, key.strip_prefix("https://").unwrap_or(&key)),
        };
        let host = HostPattern::parse(host)
            .map_err(|cause| OpenError::Other(format!("in `headers`, {cause}")))?;
        let mut headers = HeaderMap::new();
        for (name, text) in members {
            let bad =
                |what: &str| OpenError::Other(format!("in `headers`, `{name}` of `{key}` {what}"));
            let name =
                HeaderName::try_from(&name).map_err(|_| bad("is not the name of a header"))?;
            if is_transport(&name) {
                return Err(bad("is a header that the connection sets itself"));
            }
            let Some(vault) = vault else { continue };
            let secret = vault.expand(&text)?;
            if name == reqwest::header::AUTHORIZATION {
                // Whoever writes a key here instead of naming it means it as a secret too.
                vault.remember(secret.reveal().rsplit(' ').next().unwrap_or_default().to_owned());
            }
            let mut value = HeaderValue::try_from(secret.reveal())
                .map_err(|_| bad("has a value that no header can have"))?;
            value.set_sensitive(true);
            if headers.insert(name.clone(), value).is_some() {
                return Err(bad("is given twice"));
            }
        }
        injected.push(Injected { scheme, host, headers });
    }
    injected.sort_by_key(|entry| std::cmp::Reverse(entry.host.rank()));
    Ok(injected)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn vault() -> Vault {
        Vault::new(BTreeMap::from([("TOKEN".to_owned(), "sk-canary".to_owned())]))
    }

    fn table(text: &str) -> Grant {
        Grant::Table { table: text.parse().unwrap(), file: PathBuf::from("/none/reenact.toml") }
    }

    fn open(text: &str) -> Result<Settings, OpenError> {
        Settings::of(&table(text), &vault(), true)
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let settings = open("hosts = ['example.com']").unwrap();
        assert_eq!(settings.scheme_names(), "`https`, `http`");
        assert_eq!((settings.max_bytes, settings.timeout.as_secs()), (1 << 20, 30));
        assert!(settings.injected(&"https://example.com/".parse().unwrap()).is_empty());
    }

    #[test]
    fn a_flag_grants_hosts() {
        let settings = |flag: &str| Settings::of(&Grant::Flag(flag.to_owned()), &vault(), true);
        let hosts = settings("example.com, *.example.org,localhost:8080").unwrap().hosts;
        let expected = Hosts::parse(["example.com", "*.example.org", "localhost:8080"]).unwrap();
        assert_eq!(hosts, expected);
        assert!(settings("example.com,").is_err());
    }

    #[test]
    fn errors_name_the_key_and_the_value() {
        let hosts = "hosts = ['a.com']\n";
        for (text, message) in [
            ("", "missing field `hosts`"),
            ("hosts = []", "`hosts` is `[]`, but must name the hosts that are granted"),
            ("hosts = 'a.com'", "invalid type: string \"a.com\", expected a sequence"),
            (
                "hosts = ['http://a.com']",
                "in `hosts`, `http://a.com` is not a host: expected one such as `example.com`, \
                 `*.example.com`, `localhost:8080` or `[::1]:8080`, without scheme and path",
            ),
            (
                "allow_addresses = ['10']",
                "`allow_addresses` is `10`, but must hold addresses or ranges such as \
                 `127.0.0.1/32` or `fd00::/8`",
            ),
            ("schemes = ['ftp']", "unknown variant `ftp`, expected `https` or `http`"),
            ("schemes = []", "`schemes` is `[]`, but must hold `https` or `http`"),
            ("max_bytes = 0", "`max_bytes` is `0`, but must be from 1 to 67108864"),
            ("max_bytes = 67108865", "`max_bytes` is `67108865`, but must be from 1 to 67108864"),
            ("timeout_ms = 0", "`timeout_ms` is `0`, but must be from 1 to 86400000"),
            (
                "headers.'a.com'.'a b' = 'x'",
                "in `headers`, `a b` of `a.com` is not the name of a header",
            ),
            (
                "headers.'a.com'.Host = 'x'",
                "in `headers`, `Host` of `a.com` is a header that the connection sets itself",
            ),
            (
                "headers.'a.com'.A = \"a\\nb\"",
                "in `headers`, `A` of `a.com` has a value that no header can have",
            ),
            (
                "headers.'a.com' = { a = 'x', A = 'y' }",
                "in `headers`, `a` of `a.com` is given twice",
            ),
            (
                "headers.'a.com'.A = '${NO_SUCH_NAME_HERE}'",
                "there is no secret `NO_SUCH_NAME_HERE`: neither `[secrets]` nor the environment has it",
            ),
            (
                "host = 1",
                "unknown field `host`, expected one of `hosts`, `allow_addresses`, `schemes`, `max_bytes`, `timeout_ms`, `headers`, `ca_file`",
            ),
        ] {
            let text = if text.is_empty() || text.starts_with("hosts") {
                text.to_owned()
            } else {
                format!("{hosts}{text}")
            };
            let error = open(&text).err().expect(&text);
            assert_eq!(error.to_string(), message, "{text}");
        }
        let error = open(&format!("{hosts}ca_file = 'ca.pem'")).err().unwrap().to_string();
        assert!(error.starts_with("cannot open `/none/ca.pem`: "), "{error}");
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "nothing here").unwrap();
        let table = "hosts = ['a.com']\nca_file = 'ca.pem'".parse().unwrap();
        let grant = Grant::Table { table, file: folder.path().join("reenact.toml") };
        let error = Settings::of(&grant, &vault(), true).err().unwrap().to_string();
        assert!(error.contains("must name a file of certificates in PEM form"), "{error}");
    }

    #[test]
    fn injected_headers_go_to_their_host_and_nowhere_else() {
        let settings = open(
            "hosts = ['*']
            headers.'api.example.com' = { Authorization = 'Bearer ${TOKEN}', X-Own = 'api' }
            headers.'*.example.com' = { X-Own = 'below', X-Other = 'below' }
            headers.'http://localhost:8080'.X-Plain = '${TOKEN}'",
        )
        .unwrap();
        let sent = |url: &str| {
            let headers = settings.injected(&url.parse().unwrap());
            let mut sent: Vec<_> = headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            sent.sort();
            sent.join(", ")
        };
        assert_eq!(
            sent("https://API.example.com/x"),
            "authorization: Bearer sk-canary, x-other: below, x-own: api"
        );
        assert_eq!(sent("https://b.example.com/"), "x-other: below, x-own: below");
        assert_eq!(sent("http://localhost:8080/"), "x-plain: sk-canary");
        for url in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://example.com/",
            "https://api.example.com.evil.org/",
            "https://localhost:8080/",
            "http://localhost/",
        ] {
            assert_eq!(sent(url), "", "{url}");
        }
    }

    #[test]
    fn secrets_are_looked_up_only_if_somebody_wants_them() {
        let grant = table("hosts = ['a.com']\nheaders.'a.com'.A = '${NO_SUCH_NAME_HERE}'");
        assert!(Settings::of(&grant, &vault(), false).is_ok());
    }

    #[test]
    fn a_key_that_is_written_out_is_scrubbed_too() {
        let vault = vault();
        let grant = table("hosts = ['a.com']\nheaders.'a.com'.Authorization = 'Bearer sk-plain'");
        Settings::of(&grant, &vault, true).unwrap();
        assert_eq!(vault.scrub_text("it is sk-plain"), "it is [secret]");
    }
}
