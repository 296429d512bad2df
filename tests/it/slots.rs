//! Where a guest is loaded, in a slot or not, makes no difference to it.

use std::sync::Arc;

use futures::future::join_all;
use reenact::journal::{Outcome, Used};
use reenact::revision::Revision;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::hosts;
use crate::support::{Lab, Record, guest};
use crate::wat;

/// What a run did, but for its times and its id.
fn course(record: &Record) -> (Vec<u64>, u64, Used) {
    let fuel = record.entries().iter().map(|entry| entry.fuel).collect();
    let used = Used { journal_bytes: 0, ..record.ran.ended.used };
    (fuel, record.ran.fuel, used)
}

/// So many runs of the hostile guest, each in the middle of a call when the others are.
async fn together(lab: &Lab, runs: usize) -> Vec<Record> {
    let all_are_there = Arc::new(Barrier::new(runs));
    let tool = hosts::that(move |_| {
        let all_are_there = Arc::clone(&all_are_there);
        async move {
            all_are_there.wait().await;
            hosts::success(json!("now"))
        }
    });
    let input = json!({ "do": "tool-calls", "n": 3 });
    let run = |_| {
        let run = lab.run(&guest("hostile"), input.clone()).seed([7; 32]);
        run.provider("files", Arc::clone(&tool)).ends()
    };
    join_all((0..runs).map(run)).await
}

#[tokio::test]
async fn more_guests_than_slots_run_as_they_do_in_slots() {
    let (few, many) = (Lab::with_slots(1), Lab::with_slots(8));
    let expected = course(&together(&many, 1).await[0]);
    for lab in [&few, &many] {
        for record in together(lab, 3).await {
            assert_eq!(course(&record), expected);
            // A slot that was used before, and the other kind of place.
            few.proves(&record).await;
            many.proves(&record).await;
        }
    }
}

#[tokio::test]
async fn a_guest_that_fits_in_no_slot_runs_all_the_same() {
    let lab = Lab::with_slots(4);
    let tables: String = (0..5).map(|_| "(table 10 funcref)").collect();
    let five_tables = wat::Parts { fields: &tables, ..wat::Parts::default() }.seal();
    let three_memories =
        wat::Parts { fields: "(memory 1) (memory 1)", ..wat::Parts::default() }.seal();
    let large_table =
        wat::Parts { fields: "(table 150000 funcref)", ..wat::Parts::default() }.seal();
    let grows = "(if (i32.ne (table.grow 0 (ref.null func) (i32.const 150000)) (i32.const 10))
                     (then unreachable))";
    let grown_table = wat::Parts {
        fields: "(table 10 funcref)",
        run: &format!("{grows} {}", wat::DONE),
        ..wat::Parts::default()
    }
    .seal();
    let runs = |revision: &Arc<Revision>| {
        let lab = &lab;
        let revision = Arc::clone(revision);
        async move {
            let run = lab.run(&revision, Value::Object(Default::default()));
            run.limits(|limits| limits.table_elements = 200_000).ends().await
        }
    };
    for (revision, elements) in
        [(five_tables, 50), (three_memories, 0), (large_table, 150_000), (grown_table, 150_010)]
    {
        let record = runs(&revision).await;
        assert!(matches!(record.ran.ended.outcome, Outcome::Done(_)), "{:?}", record.ran.ended);
        assert_eq!(record.ran.ended.used.table_elements, elements);
        lab.proves(&record).await;
    }
}
