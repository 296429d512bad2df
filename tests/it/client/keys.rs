//! Keys: missing, wrong, too narrow, and never shown.

use super::{Server, User};
use crate::support::{Home, guest, put};

fn key(home: &Home, scopes: &str) -> String {
    home.ok(&["keys", "create", "tester", "--scope", scopes]).trim().to_owned()
}

#[test]
fn a_key_lets_in_who_has_it_and_to_what_it_may() {
    let home = Home::new();
    home.publishes(&guest("minimal"));
    let (reading, running) = (key(&home, "read"), key(&home, "read,run"));
    let server = Server::on(&home);

    let said = User::of(&server.url).fails(1, &["runs"]);
    assert!(said.contains("no key: the request has no key"), "{said}");
    assert!(said.contains("`--key @FILE` or REENACT_KEY gives a key"), "{said}");
    let wrong = "rk_0123456789ab_0123456789012345678901234567890123456789012";
    let said = User::of(&server.url).with_key(wrong).fails(1, &["runs"]);
    assert!(said.contains("unknown key") && !said.contains(wrong), "{said}");

    let reader = User::of(&server.url).with_key(&reading);
    reader.ok(&["runs"]);
    let run = ["run", "minimal", "--input", r#"{"name":"Ada"}"#];
    let said = reader.fails(1, &run);
    assert!(said.contains("not allowed: the key `tester` may not `run`"), "{said}");
    assert!(said.contains("`reenact keys create NAME --scope SCOPE,…`"), "{said}");
    let runner = User::of(&server.url).with_key(&running);
    assert_eq!(runner.ok(&run), "Hello, Ada!\n");
    // A file that the server has needs no upload; one that it does not have needs the scope.
    let known = put(runner.folder(), &guest("minimal"));
    assert_eq!(runner.ok(&["run", &known, "--input", r#"{"name":"Ada"}"#]), "Hello, Ada!\n");
    let unknown = put(runner.folder(), &guest("hostile"));
    let said = runner.fails(1, &["run", &unknown, "--input", r#"{"do":"stdout"}"#]);
    assert!(said.contains("may not `publish`"), "{said}");
}

#[test]
fn a_key_comes_from_a_file_or_the_command_line() {
    let home = Home::new();
    let key = key(&home, "read");
    let server = Server::on(&home);
    let user = User::of(&server.url);
    let file = user.folder().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let at_file = format!("@{}", file.display());
    user.ok(&["runs", "--key", &at_file]);
    user.ok(&["runs", "--key", &key]);
    User::of(&server.url).with_key(&at_file).ok(&["runs"]);

    let said = user.fails(1, &["runs", "--key", "@/nowhere"]);
    assert!(said.contains("cannot read the key from `/nowhere`"), "{said}");
    let said = user.fails(1, &["runs", "--key", "my secret"]);
    assert!(said.contains("the key is not one word") && !said.contains("my secret"), "{said}");
    let said = user.fails(1, &["cancel", "0193", "--key", &key, "--server", &server.url]);
    assert!(!said.contains(&key), "{said}");
    let said = user.says(&["runs", "--key", &key, "--server", "http://192.0.2.1.invalid:9"]);
    assert!(said.stderr.contains("unencrypted") && !said.stderr.contains(&key), "{said:#?}");
}
