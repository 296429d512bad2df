//! Runs in every state, as the API shows them.

use serde_json::json;

use super::*;
use crate::journal::{ErrorCode, FORMAT, Fingerprint, Source, Used};
use crate::json::Json;
use crate::revision::{Digest, Limits, SomeLimits};

fn started() -> Started {
    Started {
        format: FORMAT,
        run: "01a20dbf-eb19-7256-aa73-a4c451bda05f".to_owned(),
        agent: "clerk".to_owned(),
        revision: Digest::of(b"revision"),
        input: Json::from_value(&json!({ "topic": "otters" })),
        seed: String::new(),
        limits: Limits::effective(&SomeLimits::default(), &SomeLimits::default()),
        tools: vec![],
        engine: Fingerprint {
            wasmtime: "48".to_owned(),
            arch: "x86_64".to_owned(),
            stack_bytes: 0,
            yield_fuel: 0,
            hostcall_bytes: 0,
        },
        fork: None,
    }
}

fn row(status: RunStatus) -> RunRow {
    RunRow {
        id: started().run,
        agent: "clerk".to_owned(),
        revision: Digest::of(b"revision"),
        status,
        code: None,
        created_at: 1_700_000_000_000_000,
        updated_at: 1_700_000_001_000_000,
        entries: 4,
        fuel: 99,
        head: Digest::of(b"head"),
        lease_until: 0,
        waits: None,
        wake_at: 0,
        cancel: false,
        parent: None,
    }
}

fn ended(outcome: Outcome) -> Ended {
    Ended { outcome, used: Used::default(), interrupted_at: None }
}

#[test]
fn a_run_that_has_not_ended_has_neither_result_nor_error() {
    let view = RunView::of(&row(RunStatus::Pending), &started(), None);
    assert_eq!(
        serde_json::to_value(&view).unwrap(),
        json!({
            "id": started().run,
            "agentId": "clerk",
            "revisionId": Digest::of(b"revision").to_string(),
            "input": { "topic": "otters" },
            "status": "pending",
            "createdAt": "2023-11-14T22:13:20.000000Z",
            "updatedAt": "2023-11-14T22:13:21.000000Z",
            "error": null,
            "resultType": null,
            "resultData": null,
            "waits": null,
            "forkedFrom": null,
            "fuel": 99,
            "entries": 4,
        })
    );
}

#[test]
fn a_result_has_a_type_and_sources() {
    let source = Source { url: "https://example.org/".to_owned(), title: "Otters".to_owned() };
    let content = Content::Json(Json::from_value(&json!({ "otters": 3 })));
    let end = ended(Outcome::Done(Output { content, sources: vec![source] }));
    let view = RunView::of(&row(RunStatus::Done), &started(), Some(&end));
    assert_eq!(view.result_type, Some(ResultType::Json));
    assert_eq!(
        serde_json::to_value(&view.result_data).unwrap(),
        json!({
            "result": { "otters": 3 },
            "sources": [{ "url": "https://example.org/", "title": "Otters" }],
        })
    );
    let again: RunView = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
    assert_eq!(again, view, "clients read it with the same type");
}

#[test]
fn an_error_says_what_the_journal_knows_and_else_what_the_row_knows() {
    let mut failed = row(RunStatus::Error);
    failed.code = Some("agent_failure".to_owned());
    let mut error = RunError::new(ErrorCode::AgentFailure, "no otters".to_owned());
    error.details = Some(Json::from_value(&json!({ "looked": 2 })));
    let view = RunView::of(&failed, &started(), Some(&ended(Outcome::Error(error))));
    assert_eq!(
        serde_json::to_value(&view.error).unwrap(),
        json!({ "code": "agent_failure", "message": "no otters", "details": { "looked": 2 } })
    );
    let view = RunView::of(&failed, &started(), None);
    assert_eq!(view.error.unwrap().code, "agent_failure");
}

#[test]
fn a_parked_run_says_what_it_waits_for_and_until_when() {
    let mut parked = row(RunStatus::Running);
    parked.waits = Some(storage::Waits::Approval);
    parked.wake_at = 1_700_000_002_000_000;
    let view = RunView::of(&parked, &started(), None);
    assert_eq!(
        serde_json::to_value(&view.waits).unwrap(),
        json!({ "for": "approval", "until": "2023-11-14T22:13:22.000000Z" })
    );
    // Somebody has decided: it only waits for a process to load it.
    parked.wake_at = 0;
    assert_eq!(RunView::of(&parked, &started(), None).waits, None);
}
