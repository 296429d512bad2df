//! The main job from end to end.

use serde_json::json;

use crate::support::{Home, Lab, guest, root};

#[tokio::test]
async fn the_research_agent_runs_and_replays() {
    let lab = Lab::new();
    let record = lab
        .run(&guest("research"), json!({ "topic": "sandbox" }))
        .files(&root().join("wit"))
        .ends()
        .await;
    lab.proves(&record).await;
}

#[test]
fn the_command_line_runs_and_replays() {
    let home = Home::new();
    let run =
        home.json(&["run", "guest-examples/minimal", "--input", r#"{"name":"Ada"}"#, "--json"]);
    assert_eq!(run["resultData"]["result"], "Hello, Ada!");
    let replay = home.json(&["replay", run["id"].as_str().unwrap(), "--json"]);
    assert_eq!(replay["same"], true);
}
