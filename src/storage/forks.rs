//! Forks: runs that begin with entries of another one, and finding them.

use super::error::StorageError;
use super::runs::{NewRun, Parent, RunRow, select};
use super::{Appender, Follower, Storage};
use crate::journal::Stored;

impl Storage {
    /// Creates a run with the entries that it shares with its parent, the first of
    /// which is its own. All of it is durable when it returns, or nothing; then the
    /// entries are sent to the follower. `fuel` is that of the last one.
    pub async fn create_fork(
        &self,
        run: NewRun,
        parent: Parent,
        entries: Vec<Stored>,
        fuel: u64,
        follower: Option<Follower>,
    ) -> Result<Appender, StorageError> {
        let appender = self.begin_run(run, Some(parent), follower);
        entries.into_iter().for_each(|entry| appender.push(entry, fuel, 0));
        appender.commit().await?;
        Ok(appender)
    }

    /// At most `limit` forks of a run, newest first.
    pub fn forks_of(&self, run: &str, limit: u32) -> Result<Vec<RunRow>, StorageError> {
        let order = "WHERE parent = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2";
        self.read(|db| select(db, order, &[&run, &limit]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Encoded;
    use crate::revision::Digest;
    use crate::storage::RunFilter;

    fn entry(seq: u64) -> Encoded {
        let bytes = format!("entry {seq}").into_bytes();
        Encoded { seq, hash: Digest::of(&bytes), bytes }
    }

    fn run(id: &str) -> NewRun {
        NewRun {
            id: id.into(),
            agent: "agent".into(),
            revision: Digest::of(b"revision"),
            created_at: 100,
            lease_until: 0,
            pending: true,
        }
    }

    #[tokio::test]
    async fn a_fork_is_there_with_all_of_its_entries_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
        let parent = Parent { run: "elsewhere".into(), at: 7 };
        let create = |id: &str, seqs: &[u64]| {
            let entries = seqs.iter().map(|seq| entry(*seq).into()).collect();
            storage.create_fork(run(id), parent.clone(), entries, 9, None)
        };
        for seqs in [&[][..], &[0, 1, 3], &[1, 2]] {
            let error = create("a", seqs).await.map(drop).unwrap_err();
            assert!(matches!(error, StorageError::NotDense { .. }), "{seqs:?}: {error}");
        }
        assert_eq!(storage.runs(&RunFilter::default()).unwrap(), []);

        create("b", &[0, 1, 2]).await.unwrap();
        create("c", &[0]).await.unwrap();
        let forks = storage.forks_of("elsewhere", 5).unwrap();
        let ids: Vec<&str> = forks.iter().map(|fork| fork.id.as_str()).collect();
        assert_eq!((ids, forks[1].parent.as_ref()), (vec!["c", "b"], Some(&parent)));
        assert_eq!((forks[1].entries, forks[1].fuel, forks[1].head), (3, 9, entry(2).hash));
        assert_eq!(storage.forks_of("elsewhere", 1).unwrap(), forks[..1]);
        assert_eq!(storage.forks_of("b", 5).unwrap(), []);
        assert_eq!(storage.entries("b").unwrap(), [entry(0), entry(1), entry(2)]);

        // Whoever takes it over first goes on with what another run has begun.
        let taken = storage.take_over("b", 1, 0, None).await.unwrap();
        assert!(taken.is_untouched());
        taken.push(entry(3), 10, 101);
        taken.commit().await.unwrap();
        let again = storage.take_over("b", 1, 0, None).await.unwrap();
        assert!(!again.is_untouched());
    }
}
