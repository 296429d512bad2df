//! Who watches which run: followers of runs that this process executes hear at once
//! how far a run is durable. What there is to read they read from the database, so a
//! slow one costs nothing and holds nobody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::storage::Follower;

/// The runs that this process has or that somebody watches.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<HashMap<String, Watched>>>);

struct Watched {
    /// How many entries are durable, as far as this process knows.
    durable: watch::Sender<u64>,
    /// This process executes the run, so it hears of everything.
    is_held: bool,
}

/// One who watches a run.
pub struct Subscription {
    hub: Hub,
    run: String,
    durable: watch::Receiver<u64>,
}

impl Hub {
    /// The follower of a run that this process executes, until [`Hub::release`].
    pub fn follow(&self, run: &str) -> Follower {
        let mut runs = self.lock();
        let watched = runs.entry(run.to_owned()).or_insert_with(Watched::new);
        watched.is_held = true;
        let durable = watched.durable.clone();
        Box::new(move |entry| {
            durable.send_replace(entry.seq + 1);
        })
    }

    /// This process does not execute the run any more; who watches looks again.
    pub fn release(&self, run: &str) {
        let mut runs = self.lock();
        if let Some(watched) = runs.get_mut(run) {
            watched.is_held = false;
            watched.durable.send_modify(|_| {});
            if watched.durable.receiver_count() == 0 {
                runs.remove(run);
            }
        }
    }

    pub fn subscribe(&self, run: &str) -> Subscription {
        let mut runs = self.lock();
        let watched = runs.entry(run.to_owned()).or_insert_with(Watched::new);
        let durable = watched.durable.subscribe();
        Subscription { hub: self.clone(), run: run.to_owned(), durable }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new() -> Self {
        Self { durable: watch::Sender::new(0), is_held: false }
    }
}

impl Subscription {
    /// Whether this process executes the run, so that nothing happens unheard.
    pub fn is_held(&self) -> bool {
        self.hub.lock().get(&self.run).is_some_and(|watched| watched.is_held)
    }

    /// Returns when something has happened since the last time.
    pub async fn changed(&mut self) {
        // The sender lives as long as somebody is subscribed.
        if self.durable.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut runs = self.hub.lock();
        let is_last = |watched: &Watched| !watched.is_held && watched.durable.receiver_count() <= 1;
        if runs.get(&self.run).is_some_and(is_last) {
            runs.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::Encoded;
    use crate::revision::Digest;

    #[tokio::test]
    async fn watchers_hear_of_entries_and_leave_nothing_behind() {
        let hub = Hub::default();
        let mut early = hub.subscribe("r");
        assert!(!early.is_held());
        let follower = hub.follow("r");
        assert!(early.is_held());
        follower(&Arc::new(Encoded::unreadable(4, Digest::of(b""), "test")));
        early.changed().await;
        assert_eq!(*early.durable.borrow_and_update(), 5);
        hub.release("r");
        early.changed().await;
        assert!(!early.is_held());
        drop(early);
        assert!(hub.lock().is_empty());
        drop(hub.follow("r"));
        hub.release("r");
        assert!(hub.lock().is_empty());
    }
}
