//! Who has which message, and for how long.

use super::*;
use crate::journal::{Body, Chain, Entry, Event};
use crate::json::Json;
use crate::revision::Digest;
use crate::storage::{Ending, NewRun};

async fn home() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&folder.path().join("reenact.db")).unwrap();
    let hook = |id: &str| WebhookRow {
        id: id.to_owned(),
        origin: format!("https://{id}.example.org"),
        agents: None,
        events: None,
    };
    storage.set_webhooks(vec![hook("a"), hook("b")]).await.unwrap();
    (folder, storage)
}

/// A run that ends at `at`, with a journal that nobody reads here.
async fn ends(storage: &Storage, id: &str, at: Micros) {
    let event = Event { kind: "x".to_owned(), data: Json::parse("0").unwrap() };
    let first = Chain::default().push(&Entry { seq: 0, at: 0, fuel: 0, body: Body::Event(event) });
    let run = NewRun {
        id: id.to_owned(),
        agent: "clerk".to_owned(),
        revision: Digest::of(b"revision"),
        created_at: 1,
        lease_until: 1_000_000,
        pending: false,
    };
    let appender = storage.create_run(run, first, None).await.unwrap();
    appender.finish(Ending::Done, 0, at).await.unwrap();
}

fn all(storage: &Storage) -> Vec<DeliveryRow> {
    storage.deliveries(&DeliveryFilter { limit: 100, ..Default::default() }).unwrap()
}

#[tokio::test]
async fn every_hook_is_told_of_every_end_once_and_in_order() {
    let (_folder, storage) = home().await;
    for (id, at) in [("r2", 20), ("r1", 10), ("r3", 30)] {
        ends(&storage, id, at).await;
    }
    assert_eq!(all(&storage).len(), 6);
    assert!(!storage.is_delivery_due("a", 9).unwrap());
    assert!(storage.is_delivery_due("a", 10).unwrap());
    let claimed = storage.claim_deliveries("a", 25, 100, 10).await.unwrap();
    let runs: Vec<_> = claimed.iter().map(|claimed| claimed.run.as_str()).collect();
    assert_eq!(runs, ["r1", "r2"]);
    assert_eq!((claimed[0].attempt, claimed[0].created_at), (1, 10));
    assert_eq!(storage.claim_deliveries("b", 50, 100, 2).await.unwrap().len(), 2);
    assert_eq!(storage.claim_deliveries("b", 50, 100, 2).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_whose_sender_has_died_is_somebody_elses_who_alone_settles_it() {
    let (_folder, storage) = home().await;
    ends(&storage, "r", 10).await;
    let dead = storage.claim_deliveries("a", 10, 100, 1).await.unwrap().remove(0);
    assert!(storage.claim_deliveries("a", 99, 200, 1).await.unwrap().is_empty());
    let alive = storage.claim_deliveries("a", 100, 200, 1).await.unwrap().remove(0);
    assert_eq!(alive.attempt, 2);
    let late = Attempted::Failed { error: "too late".to_owned() };
    storage.settle_delivery(&dead, late, 150).await.unwrap();
    storage.settle_delivery(&alive, Attempted::Delivered, 160).await.unwrap();
    let settled = all(&storage).into_iter().find(|row| row.webhook == "a").unwrap();
    assert_eq!((settled.state, settled.at, settled.error), (DeliveryState::Delivered, 160, None));
}

#[tokio::test]
async fn what_was_put_off_is_due_later() {
    let (_folder, storage) = home().await;
    ends(&storage, "r", 10).await;
    let claimed = storage.claim_deliveries("a", 10, 100, 1).await.unwrap().remove(0);
    let later = Attempted::Later { at: 500, error: "busy".to_owned() };
    storage.settle_delivery(&claimed, later, 11).await.unwrap();
    assert!(!storage.is_delivery_due("a", 499).unwrap());
    let again = storage.claim_deliveries("a", 500, 600, 1).await.unwrap().remove(0);
    assert_eq!(again.attempt, 2);
}

#[tokio::test]
async fn a_hook_that_is_gone_is_told_nothing_until_it_is_set_again() {
    let (_folder, storage) = home().await;
    ends(&storage, "r1", 10).await;
    ends(&storage, "r2", 20).await;
    let claimed = storage.claim_deliveries("a", 10, 100, 1).await.unwrap().remove(0);
    let gone = Attempted::Gone { error: "gone".to_owned() };
    storage.settle_delivery(&claimed, gone, 11).await.unwrap();
    ends(&storage, "r3", 30).await;
    let of_a = || all(&storage).into_iter().filter(|row| row.webhook == "a").collect::<Vec<_>>();
    assert_eq!(of_a().len(), 2);
    assert!(of_a().iter().all(|row| row.state == DeliveryState::Failed));
    let hook = WebhookRow {
        id: "a".to_owned(),
        origin: "https://a.example.org".to_owned(),
        agents: None,
        events: None,
    };
    storage.set_webhooks(vec![hook]).await.unwrap();
    ends(&storage, "r4", 40).await;
    assert_eq!(of_a().len(), 3);
}

#[tokio::test]
async fn what_nobody_knows_any_more_is_given_up_and_what_is_old_forgotten() {
    let (_folder, storage) = home().await;
    ends(&storage, "r1", 10).await;
    let claimed = storage.claim_deliveries("a", 10, 100, 1).await.unwrap().remove(0);
    storage.settle_delivery(&claimed, Attempted::Delivered, 20).await.unwrap();
    storage.tidy_deliveries(1_000, 11, 15).await.unwrap();
    let states: Vec<_> = all(&storage).iter().map(|row| row.state).collect();
    assert!(states.contains(&DeliveryState::Pending), "a server that was off for long sends it");
    storage.set_webhooks(vec![]).await.unwrap();
    storage.tidy_deliveries(1_000, 11, 15).await.unwrap();
    let [given_up, delivered] = &all(&storage)[..] else { panic!() };
    assert_eq!((given_up.state, given_up.at), (DeliveryState::Failed, 1_000));
    assert_eq!(given_up.error.as_deref(), Some("nobody has this webhook any more"));
    assert_eq!(delivered.state, DeliveryState::Delivered);
    storage.tidy_deliveries(2_000, 11, 21).await.unwrap();
    assert_eq!(all(&storage).len(), 1, "what was settled long ago is forgotten");
}

#[tokio::test]
async fn what_was_given_up_can_be_tried_again_if_its_hook_is_known() {
    let (_folder, storage) = home().await;
    ends(&storage, "r", 10).await;
    for hook in ["a", "b"] {
        let claimed = storage.claim_deliveries(hook, 10, 100, 1).await.unwrap().remove(0);
        let failed = Attempted::Failed { error: "no".to_owned() };
        storage.settle_delivery(&claimed, failed, 20).await.unwrap();
    }
    let only = WebhookRow {
        id: "b".to_owned(),
        origin: "https://b.example.org".to_owned(),
        agents: None,
        events: None,
    };
    storage.set_webhooks(vec![only]).await.unwrap();
    assert_eq!(storage.retry_deliveries("r", 50).await.unwrap(), 1);
    assert_eq!(storage.retry_deliveries("other", 50).await.unwrap(), 0);
    let again = storage.claim_deliveries("b", 50, 100, 1).await.unwrap().remove(0);
    assert_eq!(again.attempt, 1);
    assert!(!storage.is_delivery_due("a", 1_000).unwrap());
}
