//! Who watches which run: followers of runs that this process executes hear at once
//! how far a run is durable, and how it has ended. What else there is to read they read
//! from the database, so a slow one costs nothing and holds nobody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::view::RunView;
use crate::storage::Follower;

/// The runs that this process has or that somebody watches.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<HashMap<String, Watched>>>);

struct Watched {
    /// How many entries are durable, as far as this process knows.
    durable: watch::Sender<u64>,
    /// Apart from that, so that who waits for the end is not woken by what comes before it.
    standing: watch::Sender<Standing>,
}

/// What this process has to do with a run.
enum Standing {
    /// Nothing: what happens to it shows in the database only.
    Elsewhere,
    /// It executes the run, so it hears of everything.
    Held,
    /// It has executed the run to its end, which is durable.
    Ended(Arc<RunView>),
}

/// One who watches a run.
pub struct Subscription {
    hub: Hub,
    run: String,
    durable: watch::Receiver<u64>,
    standing: watch::Receiver<Standing>,
}

impl Hub {
    /// The follower of a run that this process executes, until [`Hub::release`].
    pub fn follow(&self, run: &str) -> Follower {
        let mut runs = self.lock();
        let watched = runs.entry(run.to_owned()).or_insert_with(Watched::new);
        watched.standing.send_replace(Standing::Held);
        let durable = watched.durable.clone();
        Box::new(move |entry| {
            durable.send_replace(entry.seq + 1);
        })
    }

    /// The run has ended, durably. Its view is made only if somebody watches.
    pub fn ended(&self, run: &str, view: impl FnOnce() -> RunView) {
        let watched = |watched: &&Watched| watched.standing.receiver_count() > 0;
        let standing = self.lock().get(run).filter(watched).map(|run| run.standing.clone());
        if let Some(standing) = standing {
            standing.send_replace(Standing::Ended(Arc::new(view())));
        }
    }

    /// This process does not execute the run any more; who watches looks again.
    pub fn release(&self, run: &str) {
        let mut runs = self.lock();
        let Some(watched) = runs.get(run) else { return };
        watched.standing.send_if_modified(|standing| {
            let is_held = matches!(standing, Standing::Held);
            if is_held {
                *standing = Standing::Elsewhere;
            }
            is_held
        });
        watched.durable.send_modify(|_| {});
        if watched.standing.receiver_count() == 0 {
            runs.remove(run);
        }
    }

    pub fn subscribe(&self, run: &str) -> Subscription {
        let mut runs = self.lock();
        let watched = runs.entry(run.to_owned()).or_insert_with(Watched::new);
        let (durable, standing) = (watched.durable.subscribe(), watched.standing.subscribe());
        Subscription { hub: self.clone(), run: run.to_owned(), durable, standing }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new() -> Self {
        let standing = watch::Sender::new(Standing::Elsewhere);
        Self { durable: watch::Sender::new(0), standing }
    }
}

impl Subscription {
    /// Id of the run.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether this process executes the run, so that nothing happens unheard.
    pub fn is_held(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Held)
    }

    /// Returns when something has happened since the last time.
    pub async fn changed(&mut self) {
        // The sender lives as long as somebody is subscribed.
        if self.durable.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when this process executes the run no more: how the run has ended, if it
    /// came to its end here while somebody watched.
    pub async fn ended(&mut self) -> Option<Arc<RunView>> {
        let is_over = |standing: &Standing| !matches!(standing, Standing::Held);
        match &*self.standing.wait_for(is_over).await.ok()? {
            Standing::Ended(view) => Some(Arc::clone(view)),
            Standing::Held | Standing::Elsewhere => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut runs = self.hub.lock();
        let is_last = |watched: &Watched| {
            !matches!(*watched.standing.borrow(), Standing::Held)
                && watched.standing.receiver_count() <= 1
        };
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
    #[tokio::test]
    async fn whoever_watches_hears_of_the_end_and_for_nobody_else_is_it_told() {
        let view = || {
            let view = serde_json::json!({
                "id": "r", "agentId": "a", "revisionId": "", "input": null, "status": "done",
                "createdAt": "", "updatedAt": "", "fuel": 0, "entries": 7,
            });
            serde_json::from_value(view).unwrap()
        };
        let hub = Hub::default();
        let mut elsewhere = hub.subscribe("r");
        assert!(elsewhere.ended().await.is_none());
        drop(elsewhere);

        let _follower = hub.follow("r");
        hub.ended("r", || panic!("nobody watches"));
        hub.release("r");

        let mut watching = hub.subscribe("r");
        let _follower = hub.follow("r");
        let (ended, ()) = tokio::join!(watching.ended(), async { hub.ended("r", view) });
        hub.release("r");
        assert_eq!(ended.as_deref(), Some(&view()));
        assert_eq!(watching.ended().await.as_deref(), Some(&view()), "it stays so");
        drop(watching);

        let mut watching = hub.subscribe("r");
        let _follower = hub.follow("r");
        let (left, ()) = tokio::join!(watching.ended(), async { hub.release("r") });
        assert!(left.is_none(), "it is somebody else's now");
        drop(watching);
        assert!(hub.lock().is_empty());
    }
}
