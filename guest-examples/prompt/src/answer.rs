//! The form of the agent's answer, and whether a text of the model has it.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::exports::reenact::agent::guest::{Content, Failure};
use crate::failure::failure;
use crate::manifest::{OutputSpec, OutputType};

/// Violations that the model is told of at once.
const MAX_VIOLATIONS: usize = 20;

/// Characters of one of them.
const MAX_CHARS: usize = 300;

pub enum Form {
    Document,
    Json(Box<Validator>),
}

impl Form {
    pub fn of(output: &OutputSpec) -> Result<Self, Failure> {
        match (output.kind, &output.schema) {
            (OutputType::Document, _) => Ok(Self::Document),
            (OutputType::Json, schema) => {
                // As the host checks it: `format` is a note, patterns take linear time.
                let validator = jsonschema::options()
                    .offline()
                    .should_validate_formats(false)
                    .with_pattern_options(PatternOptions::regex())
                    .build(schema.as_ref().unwrap_or(&Value::Bool(true)));
                let unusable = |error| failure(format!("the output schema is unusable: {error}"));
                validator.map(|validator| Self::Json(Box::new(validator))).map_err(unusable)
            }
        }
    }

    /// The content, or what is wrong with it.
    pub fn judge(&self, text: &str) -> Result<Content, Vec<String>> {
        match self {
            Self::Document => Ok(Content::Document(text.trim().to_owned())),
            Self::Json(validator) => {
                let value: Value = serde_json::from_str(unfenced(text))
                    .map_err(|error| vec![format!("it is not JSON: {error}")])?;
                let errors = validator.iter_errors(&value).take(MAX_VIOLATIONS);
                match errors.map(|error| violation(&error)).collect::<Vec<_>>() {
                    none if none.is_empty() => Ok(Content::Json(value.to_string())),
                    violations => Err(violations),
                }
            }
        }
    }
}

fn violation(error: &ValidationError<'_>) -> String {
    let place = match error.instance_path().as_str() {
        "" => "at the root".to_owned(),
        pointer => format!("at `{pointer}`"),
    };
    let text = format!("{place}: {error}");
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The text inside of a code fence, if it is all in one. Models like to add one.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    match inside.and_then(|inside| inside.split_once('\n')) {
        Some((_language, inside)) => inside.trim(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(schema: Value) -> Form {
        Form::of(&OutputSpec { kind: OutputType::Json, schema: Some(schema) }).unwrap()
    }

    #[test]
    fn json_is_taken_with_and_without_a_fence() {
        let form = form(json!({ "type": "object", "required": ["n"] }));
        for text in
            ["{\"n\": 1.0}", " {\"n\": 1.0}\n", "```json\n{\"n\": 1.0}\n```", "```\n{\"n\":1.0}```"]
        {
            match form.judge(text) {
                Ok(Content::Json(json)) => assert_eq!(json, "{\"n\":1.0}"),
                _ => panic!("{text}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let form =
            form(json!({ "properties": { "n": { "type": "integer" } }, "required": ["n", "m"] }));
        let Err(violations) = form.judge(r#"{"n":"x"}"#) else { panic!("it fits") };
        assert_eq!(violations.len(), 2);
        assert!(violations.iter().any(|v| v.starts_with("at `/n`: ") && v.contains("integer")));
        let Err(violations) = form.judge("Sure! {}") else { panic!("it fits") };
        assert!(violations[0].starts_with("it is not JSON: "));
    }
}
