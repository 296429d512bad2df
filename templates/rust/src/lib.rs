//! Lists where the files of a granted folder mention a topic.

use reenact_agent::tools::{Code, ToolError};
use reenact_agent::{Failure, context, events, tools};
use serde::Deserialize;
use serde_json::json;

/// As `[input.schema]` in `agent.toml` has it.
#[derive(Deserialize)]
struct Input {
    topic: String,
}

/// `[config]` in `agent.toml`.
#[derive(Deserialize)]
struct Config {
    max_results: u64,
}

/// What `files.search` answers, as far as it is read here.
#[derive(Deserialize)]
struct Found {
    matches: Vec<Match>,
}

#[derive(Deserialize)]
struct Match {
    path: String,
    line: u64,
    text: String,
}

fn run(Input { topic }: Input) -> Result<String, Failure> {
    let config: Config = context::config()?;
    events::emit(
        "planning",
        &json!({ "goal": format!("Find out where {topic} is mentioned") }),
    );

    let arguments = json!({ "query": topic, "max_results": config.max_results });
    let found: Result<Found, ToolError> = tools::call("files.search", &arguments);
    let matches = match found {
        Ok(found) => found.matches,
        // A denial is an answer: the agent can do without.
        Err(denied) if denied.code == Code::Denied => {
            return Ok(format!(
                "There are no files to search for {topic}: {}\n",
                denied.message
            ));
        }
        Err(error) => return Err(error.into()),
    };

    events::emit(
        "reasoning",
        &json!({ "text": format!("{} lines mention it.", matches.len()) }),
    );
    let mut document = format!("# {topic}\n\n");
    for Match { path, line, text } in matches {
        document += &format!("- `{path}`, line {line}: {}\n", text.trim());
    }
    Ok(document)
}

reenact_agent::agent!(run);
