//! The keys of clients: what they look like, what they are allowed, and how one is
//! checked. What is kept of a key is its hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::journal::Micros;
use crate::revision::Digest;
use crate::runtime;
use crate::storage::{KeyRow, Storage, StorageError};

/// What every key begins with, so that scanners for leaked secrets find it.
const MARK: &str = "rk_";
/// Digits of the id, which is public.
const ID_DIGITS: usize = 12;
/// Characters of 32 bytes in base64.
const SECRET_CHARS: usize = 43;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See agents, revisions and runs.
    Read,
    /// Start, cancel, approve, replay and fork runs.
    Run,
    /// Create and change agents, upload and publish revisions.
    Publish,
    /// All of it.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::Run, Self::Publish, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope, only `read`, `run`, `publish` and `admin` are")]
pub struct UnknownScope(pub String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let known = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Id of the key; empty where no key is asked for.
    pub id: String,
    pub name: String,
    scopes: Vec<Scope>,
}

impl Client {
    /// Whoever sends requests to a server that asks for no keys.
    pub fn anybody() -> Self {
        Self { id: String::new(), name: "anybody".to_owned(), scopes: vec![Scope::Admin] }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| *own == scope || *own == Scope::Admin)
    }
}

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key is not one of this server")]
    Unknown,
    #[error("the key is revoked")]
    Revoked,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes a key and keeps its hash. The key itself is known to the caller alone, from
/// here on.
pub fn create(
    storage: &Storage,
    name: &str,
    scopes: &[Scope],
    now: Micros,
) -> Result<(String, KeyRow), StorageError> {
    let id = hex::encode(&runtime::seed()[..ID_DIGITS / 2]);
    let key = format!("{MARK}{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(runtime::seed()));
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    let row = KeyRow {
        id: format!("{MARK}{id}"),
        name: name.to_owned(),
        hash: Digest::of(key.as_bytes()),
        scopes: scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        created_at: now,
        revoked_at: None,
    };
    storage.insert_key(&row)?;
    Ok((key, row))
}

/// Whose key this is. It takes as long for a key that is almost right as for any other.
pub fn check(storage: &Storage, key: &str) -> Result<Client, KeyError> {
    let id = id_of(key).ok_or(KeyError::Unknown)?;
    let row = storage.key(id)?.ok_or(KeyError::Unknown)?;
    let hash = Digest::of(key.as_bytes());
    if !bool::from(hash.as_bytes().ct_eq(row.hash.as_bytes())) {
        return Err(KeyError::Unknown);
    }
    // Only who has the whole key is told that.
    if row.revoked_at.is_some() {
        return Err(KeyError::Revoked);
    }
    let scopes = row.scopes.split(',').filter_map(|scope| scope.parse().ok()).collect();
    Ok(Client { id: row.id, name: row.name, scopes })
}

/// The part of a key that is public, if it has the form of one.
pub fn id_of(key: &str) -> Option<&str> {
    let is_whole = key.len() == MARK.len() + ID_DIGITS + 1 + SECRET_CHARS && key.is_ascii();
    let (id, secret) = key.split_at_checked(MARK.len() + ID_DIGITS)?;
    (is_whole && id.starts_with(MARK) && secret.starts_with('_')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
        (folder, storage)
    }

    #[test]
    fn a_key_is_good_for_its_scopes_until_it_is_revoked() {
        let (_folder, storage) = storage();
        assert!(!storage.has_keys().unwrap());
        let (key, row) = create(&storage, "ci", &[Scope::Run, Scope::Read], 5).unwrap();
        assert!(key.starts_with(&row.id) && row.scopes == "read,run", "{row:?}");
        let client = check(&storage, &key).unwrap();
        assert_eq!((client.id.as_str(), client.name.as_str()), (row.id.as_str(), "ci"));
        assert!(client.may(Scope::Read) && client.may(Scope::Run) && !client.may(Scope::Publish));
        assert!(storage.revoke_key(&row.id, 6).unwrap());
        assert!(!storage.revoke_key(&row.id, 7).unwrap());
        assert!(matches!(check(&storage, &key), Err(KeyError::Revoked)));
        assert_eq!(storage.keys().unwrap()[0].revoked_at, Some(6));
        assert!(storage.has_keys().unwrap(), "a revoked key still says that keys are asked for");
    }

    #[test]
    fn what_is_not_the_whole_key_is_unknown() {
        let (_folder, storage) = storage();
        let (key, row) = create(&storage, "ci", &[Scope::Admin], 5).unwrap();
        let mut other = key.clone();
        let last = if other.pop() == Some('A') { 'B' } else { 'A' };
        other.push(last);
        for wrong in ["", "rk_", &row.id, &key[..key.len() - 1], &format!("{key}x"), &other, "é"] {
            assert!(matches!(check(&storage, wrong), Err(KeyError::Unknown)), "{wrong}");
        }
        let kept = format!("{:?}", storage.keys().unwrap());
        assert!(!kept.contains(&key[16..]), "the secret is not kept");
    }
}
