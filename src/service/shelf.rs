//! Revisions that are ready to run, the most used ones kept.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::ServiceError;
use crate::registry::Registry;
use crate::revision::{Digest, Revision};
use crate::runtime::{Executor, Prepared};

/// Bytes of sealed files whose compiled code is kept: code has about twice that.
const MAX_BYTES: u64 = 512 << 20;
/// Revisions that are expected to be kept; only a first guess of the table's size.
const EXPECTED: usize = 64;

pub struct Shelf {
    registry: Registry,
    executor: Arc<Executor>,
    kept: Cache<Digest, Arc<Prepared>, Size>,
}

#[derive(Clone)]
struct Size;

impl Weighter<Digest, Arc<Prepared>> for Size {
    fn weight(&self, _: &Digest, prepared: &Arc<Prepared>) -> u64 {
        (prepared.revision.bytes.len() as u64).max(1)
    }
}

impl Shelf {
    pub fn new(registry: Registry, executor: Arc<Executor>) -> Self {
        let kept = Cache::with_weighter(EXPECTED, MAX_BYTES, Size);
        Self { registry, executor, kept }
    }

    /// A revision that is in the registry. Whoever asks while it is being compiled waits
    /// for the same compilation.
    pub async fn get(&self, digest: Digest) -> Result<Arc<Prepared>, ServiceError> {
        self.kept.get_or_insert_async(&digest, self.load(digest)).await
    }

    async fn load(&self, digest: Digest) -> Result<Arc<Prepared>, ServiceError> {
        let (registry, executor) = (self.registry.clone(), Arc::clone(&self.executor));
        super::blocking(move || {
            let revision = Revision::open(registry.read(digest)?)?;
            Ok(Arc::new(executor.prepare(Arc::new(revision))?))
        })
        .await
    }

    /// Compiles a revision that is not in the registry yet.
    pub async fn prepare(&self, revision: Arc<Revision>) -> Result<Arc<Prepared>, ServiceError> {
        let executor = Arc::clone(&self.executor);
        super::blocking(move || Ok(Arc::new(executor.prepare(revision)?))).await
    }

    /// Keeps a revision that is in the registry by now.
    pub fn keep(&self, prepared: Arc<Prepared>) {
        self.kept.insert(prepared.revision.digest, prepared);
    }
}
