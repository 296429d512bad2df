//! Calls of a server's run that a person decides about, from another machine.

use serde_json::json;

use super::{Server, User, newest_run, until};
use crate::approvals::{RUN, home_that_asks};
use crate::terminal::Terminal;

/// The run that waits, once one does.
fn waiting(user: &User) -> String {
    until(|| {
        let runs = user.json(&["runs", "--json"]);
        let id = runs[0]["id"].as_str()?.to_owned();
        let calls = user.json(&["approve", &id, "--list", "--json"]);
        (calls.as_array()?.len() == 1).then_some(id)
    })
}

#[test]
fn a_call_waits_until_somebody_approves_it_from_elsewhere() {
    let home = home_that_asks();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let mut running = user.starts(&RUN);
    let notice = running.notes("approval needed");
    let run = waiting(&user);
    assert!(notice.contains("call 0 of files.list waits") && notice.contains(&run), "{notice}");
    let listed = user.says(&["approve", &run, "--list"]);
    assert!(listed.stderr.contains("the agent wants to call files.list (call 0)"), "{listed:#?}");
    let said = user.fails(1, &["approve", &run, "--call", "7"]);
    assert!(said.contains("call 7") && said.contains("these wait: 0"), "{said}");
    let shown = user.ok(&["show", &run]);
    assert!(shown.contains("approval needed: the agent wants to call files.list"), "{shown}");

    let said = user.says(&["approve", &run]);
    assert!(said.stderr.contains(&format!("approved call 0 of run {run}")), "{said:#?}");
    let said = running.ends();
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("\"answers\": 1"), "{said:#?}");
    assert!(
        said.stderr.contains("approval_asked") && said.stderr.contains("approved by"),
        "{said:#?}"
    );
    let said = user.fails(1, &["approve", &run]);
    assert!(said.contains("waits for no approval"), "{said}");
}

#[test]
fn a_run_is_left_and_its_call_decided_otherwise() {
    let home = home_that_asks();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let last_error = |run: &str| {
        let ended = until(|| {
            let run = user.json(&["show", run, "--json"]);
            (run["status"] == "done").then_some(run)
        });
        ended["resultData"]["result"]["last_error"]["message"].as_str().unwrap().to_owned()
    };
    for (decide, said) in [
        (["--deny", "too late"], "a person denied the call of `files.list`: too late"),
        (["--arguments", r#"{"path":"none"}"#], "none"),
    ] {
        let left = user.fails(5, &[&RUN[..], &["--on-ask", "leave"]].concat());
        assert!(left.contains("waits for an approval") && left.contains(" approve "), "{left}");
        let run = waiting(&user);
        user.ok(&[&["approve", &run][..], &decide].concat());
        let error = last_error(&run);
        assert!(error.contains(said), "{error}");
    }
    user.ok(&[&RUN[..], &["--on-ask", "deny"]].concat());
    let run = newest_run(&user)["id"].as_str().unwrap().to_owned();
    assert!(last_error(&run).contains("nobody is there to ask"));
}

#[test]
fn a_question_is_put_and_answered_at_the_terminal() {
    let home = home_that_asks();
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let mut terminal = Terminal::with(user.command(&RUN));
    terminal.shows("approval needed: the agent wants to call files.list (call 0) with");
    terminal.shows("approve it? [y]es, [n]o, or [e]dit the arguments:");
    terminal.types("y");
    terminal.shows("done in");
    assert_eq!(terminal.ends(), 0);
    assert_eq!(newest_run(&user)["resultData"]["result"]["answers"], 1);

    // Somebody else is quicker.
    let mut terminal = Terminal::with(user.command(&RUN));
    terminal.shows("[e]dit the arguments:");
    user.ok(&["approve", &waiting(&user), "--deny", "no"]);
    terminal.shows("done in");
    assert_eq!(terminal.ends(), 0);
    let error = &newest_run(&user)["resultData"]["result"]["last_error"];
    assert_eq!(error["message"], json!("a person denied the call of `files.list`: no"));
}
