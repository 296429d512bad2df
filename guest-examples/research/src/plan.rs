//! What the agent means to do, told before it does it.

use serde::Serialize;

#[derive(Serialize)]
pub struct Plan {
    goal: String,
    steps: Vec<String>,
}

impl Plan {
    pub fn new(topic: &str, max_files: usize) -> Plan {
        let most = match max_files {
            1 => "the file with the most mentions".to_string(),
            n => format!("the {n} files with the most mentions"),
        };
        Plan {
            goal: format!("Find what the files say about “{topic}”"),
            steps: vec![
                format!("Search all files for “{topic}”"),
                format!("Read {most}"),
                "Extract the passages that mention the topic".to_string(),
                "Write them up, with the limits of the research".to_string(),
            ],
        }
    }
}
