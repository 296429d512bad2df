//! What goes wrong before a server is asked, and when none is there.

use super::{Server, User};
use crate::support::{Home, guest};

#[test]
fn a_server_that_is_not_there_is_named_with_the_cause_and_a_way_out() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let said = User::of(&url).says(&["runs"]);
    assert_eq!(said.code, Some(1));
    let cannot = format!("cannot connect to `{url}`: Connection refused (os error 111)");
    let expected = format!(
        "note: {cannot}: trying again in 500.0 ms\n\
         note: {cannot}: trying again in 1.00 s\n\
         error: {cannot}\n\
         \n\
         hint: is the server started (`reenact serve`), and the address right (`--server URL`)?\n"
    );
    assert_eq!(said.stderr, expected);
}

#[test]
fn verbs_of_this_machine_take_no_server() {
    let home = Home::new();
    for args in [
        &["serve"][..],
        &["keys", "list"],
        &["webhooks", "list"],
        &["resume", "0193"],
        &["build", "."],
        &["init", "x"],
        &["inspect", "x"],
        &["tools", "list"],
    ] {
        let said = home.fails(1, &[args, &["--server", "http://127.0.0.1:1"]].concat());
        let refused = format!("error: `reenact {}` takes no `--server`\n\nhint: ", args[0]);
        assert!(said.starts_with(&refused), "{args:?}: {said}");
    }
}

#[test]
fn the_environment_names_a_server_only_for_what_it_can_do() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let nowhere = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("REENACT_SERVER", "http://127.0.0.1:1").output().unwrap()
    };
    assert!(nowhere(&["keys", "list"]).status.success(), "it is about this machine");
    assert!(!nowhere(&["runs"]).status.success(), "there is no server");
    let at_home = ["runs", "--home", home.path().to_str().unwrap()];
    assert!(nowhere(&at_home).status.success(), "a home that is named is meant");
}

#[test]
fn what_goes_with_no_server_is_refused() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let said = user.fails(1, &["run", "minimal", "--grant", "files=docs"]);
    assert!(said.contains("`--grant` goes with no server"), "{said}");
    let said = home.fails(1, &["runs", "--key", "rk_x"]);
    assert!(said.contains("`--key` is given, and no server") && !said.contains("rk_x"), "{said}");
    let said = user.fails(1, &["runs", "--server", &server.url, "--home", "x"]);
    assert!(said.contains("`--server` goes with neither `--home` nor `--config`"), "{said}");
    for (address, what) in [
        ("localhost:7411", "begins with neither `http://` nor `https://`"),
        ("http://me:hunter2@localhost", "`--key` is the place for a key"),
        ("http://localhost/?x", "more than a host and a path"),
    ] {
        let said = user.fails(1, &["runs", "--server", address]);
        assert!(said.contains(what) && said.contains("hint: "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for (args, what) in [
        (&["show", "ffff"][..], "unknown run"),
        (&["show", ".."], "`..` is no id"),
        (&["run", "nobody", "--input", "{}"], "unknown agent"),
        (&["run", "minimal", "--input", "{"], "not valid JSON"),
        (&["run", "minimal", "--input", "{}"], "\"name\" is a required property"),
        (&["replay", "no/such.file"], "there is no file `no/such.file`"),
        (&["run", "./no.wasm"], "cannot read `./no.wasm`"),
    ] {
        let said = user.fails(1, args);
        assert!(said.contains(what), "{args:?}: {said}");
    }
}
