//! The agent of the benchmarks: it does as much of each thing as it is told to.

use std::time::Duration;

use reenact_agent::{Failure, events, tools};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Input {
    events: u64,
    calls: u64,
    sleep: u64,
}

fn run(input: Input) -> Result<String, Failure> {
    // The events are spread evenly before, between and after the calls.
    let mut emitted = 0;
    for call in 0..=input.calls {
        while emitted < input.events * (call + 1) / (input.calls + 1) {
            events::emit("reasoning", &json!({ "step": emitted }));
            emitted += 1;
        }
        if call < input.calls {
            let _: Value = tools::call("files.list", &json!({ "path": "" }))?;
        }
    }
    if input.sleep > 0 {
        std::thread::sleep(Duration::from_secs(input.sleep));
    }
    Ok("done".to_owned())
}

reenact_agent::agent!(run);
