//! Runs in line, and who is next.

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

fn queue(loaded: usize, per_agent: usize, held: usize) -> Queue {
    Queue::new(Places { loaded, per_agent, held })
}

fn add(queue: &mut Queue, runs: &[(&str, &str)]) {
    for (run, agent) in runs {
        assert!(queue.add(run, agent, 0));
    }
}

fn started(queue: &mut Queue) -> Vec<String> {
    let mut runs = Vec::new();
    while let Some(next) = queue.next() {
        match next {
            Next::Start { run, .. } => runs.push(run),
            Next::Enter => runs.push("entered".to_owned()),
            Next::Return { place, .. } => {
                let _ = place.send(());
                runs.push("returned".to_owned());
            }
        }
    }
    runs
}

#[test]
fn agents_take_turns_and_each_keeps_its_order() {
    let mut queue = queue(9, 9, 9);
    add(&mut queue, &[("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")]);
    assert_eq!(started(&mut queue), ["a1", "b1", "a2", "b2", "a3"]);
}

#[test]
fn one_agent_cannot_have_all_places() {
    let mut queue = queue(4, 2, 9);
    add(&mut queue, &[("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")]);
    assert_eq!(started(&mut queue), ["a1", "b1", "a2"]);
    queue.unload("a");
    queue.leave("a1");
    assert_eq!(started(&mut queue), ["a3"]);
    assert_eq!(queue.counts(), Counts { waiting: 0, loaded: 3, held: 3, failed: 0 });
}

#[test]
fn a_run_that_comes_back_goes_first() {
    let mut queue = queue(1, 1, 9);
    add(&mut queue, &[("a1", "a"), ("a2", "a")]);
    assert_eq!(started(&mut queue), ["a1"]);
    queue.unload("a");
    let mut place = queue.come_back("a");
    assert_eq!(started(&mut queue), ["returned"]);
    assert_eq!(place.try_recv(), Ok(()));
    queue.unload("a");
    assert_eq!(started(&mut queue), ["a2"]);
}

#[test]
fn the_process_has_no_more_runs_than_it_may_hold() {
    let mut queue = queue(2, 2, 1);
    add(&mut queue, &[("a1", "a"), ("a2", "a")]);
    assert_eq!(started(&mut queue), ["a1"]);
    queue.unload("a");
    assert_eq!(started(&mut queue), [""; 0], "it still has a1");
    queue.leave("a1");
    assert_eq!(started(&mut queue), ["a2"]);
}

#[test]
fn a_known_run_is_not_taken_twice_and_a_failed_one_waits() {
    let mut queue = queue(9, 9, 9);
    add(&mut queue, &[("a1", "a")]);
    assert!(!queue.add("a1", "a", 0));
    assert_eq!(started(&mut queue), ["a1"]);
    assert!(!queue.add("a1", "a", 0));
    assert_eq!(queue.failed("a1", 0), 1_000_000);
    queue.unload("a");
    queue.leave("a1");
    assert!(!queue.add("a1", "a", 999_999));
    assert!(queue.add("a1", "a", 1_000_000));
    assert_eq!(queue.failed("a1", 0), 2_000_000);
    assert_eq!((2..40).map(|_| queue.failed("a1", 0)).max(), Some(LAST_RETRY));
}

#[test]
fn a_run_that_comes_has_its_turn_at_once_where_nobody_waits_for_the_place() {
    let mut queue = queue(3, 2, 9);
    assert_eq!(queue.come("a0", "a").try_recv(), Err(TryRecvError::Closed), "nobody has one yet");
    queue.open();
    for run in ["a1", "a2"] {
        assert_eq!(queue.come(run, "a").try_recv(), Ok(()));
    }
    let mut third = queue.come("a3", "a");
    assert_eq!(third.try_recv(), Err(TryRecvError::Empty), "the agent has all that it may");
    let mut other = queue.come("b1", "b");
    assert_eq!(other.try_recv(), Err(TryRecvError::Empty), "somebody may be next");
    assert_eq!(started(&mut queue), ["entered"]);
    assert_eq!(other.try_recv(), Ok(()), "who waits for a place of his agent holds up nobody");
    assert_eq!(queue.counts(), Counts { waiting: 1, loaded: 3, held: 3, failed: 0 });
    queue.unload("b");
    assert_eq!(queue.come("b2", "b").try_recv(), Ok(()), "nor does he later");
    queue.unload("a");
    queue.leave("a1");
    let mut fourth = queue.come("a4", "a");
    assert_eq!(started(&mut queue), ["entered"]);
    assert_eq!(third.try_recv(), Ok(()));
    assert_eq!(fourth.try_recv(), Err(TryRecvError::Empty), "others were there before");
}

#[test]
fn a_run_keeps_its_place_in_line_when_it_is_entered() {
    let mut queue = queue(1, 1, 9);
    queue.open();
    let places = ["a1", "a2", "a3"].map(|run| queue.come(run, "a"));
    assert!(queue.entered("a2", "a"));
    assert!(!queue.add("a2", "a", 0), "it is known");
    queue.unload("a");
    assert_eq!(started(&mut queue), ["a2"]);
    queue.unload("a");
    assert_eq!(started(&mut queue), ["entered"]);
    assert!(!queue.entered("a3", "a"), "it has its turn");
    drop(places);
}

#[test]
fn who_does_not_wait_any_more_takes_no_place() {
    let mut queue = queue(1, 1, 9);
    queue.open();
    let mut places = ["a1", "a2", "a3", "a4"].map(|run| queue.come(run, "a"));
    queue.withdraw("a2", "a");
    places[2].close();
    queue.unload("a");
    queue.leave("a1");
    assert_eq!(started(&mut queue), ["entered", "entered"]);
    assert!(places[2].try_recv().is_err());
    assert_eq!(places[3].try_recv(), Ok(()));
    assert_eq!(queue.counts(), Counts { waiting: 0, loaded: 1, held: 1, failed: 0 });
}

#[test]
fn a_run_that_comes_waits_where_the_process_holds_all_that_it_may() {
    let mut queue = queue(2, 2, 1);
    queue.open();
    assert_eq!(queue.come("a1", "a").try_recv(), Ok(()));
    queue.unload("a");
    let mut second = queue.come("a2", "a");
    assert_eq!(started(&mut queue), [""; 0]);
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    queue.leave("a1");
    assert_eq!(started(&mut queue), ["entered"]);
}

#[test]
fn nobody_has_a_turn_after_the_end() {
    let mut queue = queue(9, 9, 9);
    queue.open();
    add(&mut queue, &[("a1", "a")]);
    let mut second = queue.come("a2", "a");
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    queue.close();
    assert_eq!(second.try_recv(), Err(TryRecvError::Closed));
    assert!(!queue.entered("a2", "a"));
    assert_eq!(started(&mut queue), [""; 0]);
    assert!(!queue.add("a2", "a", 0));
    assert!(queue.come_back("a").try_recv().is_err());
}
