//! What the guest returned, held against what the revision declares.

use crate::journal::{Content, ErrorCode, Outcome, Output, RunError, Source};
use crate::json::Json;
use crate::revision::{Limits, OutputType, Schema};
use crate::runtime::effects::merge_sources;
use crate::sandbox::{GuestContent, GuestOutput};

/// Bytes of an error's message. Longer ones are cut; details have room for more.
const MAX_MESSAGE: usize = 16 << 10;

/// What the revision says about its output.
pub struct Declared<'a> {
    pub kind: OutputType,
    pub schema: Option<&'a Schema>,
}

/// Checks the output and joins the sources: first those that came with tool
/// answers, then those that the guest names itself.
pub fn check(
    output: GuestOutput,
    collected: &[Source],
    declared: &Declared<'_>,
    limits: &Limits,
) -> Outcome {
    let bytes = size(&output);
    if bytes > limits.output_bytes {
        let message = format!("the output has {bytes} bytes, the limit is {}", limits.output_bytes);
        return error(ErrorCode::OutputTooLarge, message);
    }
    let mut sources = collected.to_vec();
    let named: Vec<Source> = output.sources.into_iter().map(Source::from).collect();
    merge_sources(&mut sources, &named, limits.sources);
    match (output.content, declared.kind) {
        (GuestContent::Document(text), OutputType::Document) => {
            Outcome::Done(Output { content: Content::Document(text), sources })
        }
        (GuestContent::Json(text), OutputType::Json) => {
            match checked_json(&text, declared.schema) {
                Ok(json) => Outcome::Done(Output { content: Content::Json(json), sources }),
                Err(message) => error(ErrorCode::InvalidOutput, message),
            }
        }
        (GuestContent::Document(_), OutputType::Json) => error(
            ErrorCode::InvalidOutput,
            "the output is a document, the manifest declares `json`".to_owned(),
        ),
        (GuestContent::Json(_), OutputType::Document) => error(
            ErrorCode::InvalidOutput,
            "the output is JSON, the manifest declares `document`".to_owned(),
        ),
    }
}

/// Bytes of the output as the limit counts them: content and sources.
pub fn size(output: &GuestOutput) -> u64 {
    let content = match &output.content {
        GuestContent::Document(text) | GuestContent::Json(text) => text.len(),
    };
    let sources = output.sources.iter().map(|source| source.url.len() + source.title.len());
    (content + sources.sum::<usize>()) as u64
}

fn checked_json(text: &str, schema: Option<&Schema>) -> Result<Json, String> {
    let value = serde_json::from_str(text)
        .map_err(|error| format!("the output is not valid JSON: {error}"))?;
    let Some(schema) = schema else { return Ok(Json::from_value(&value)) };
    match schema.check(&value) {
        Ok(()) => Ok(Json::from_value(&value)),
        Err(violations) => {
            let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
            Err(format!("the output does not fit the output schema: {}", violations.join("; ")))
        }
    }
}

/// The guest's own failure, cut to what the limits allow.
pub fn trim(mut failure: RunError, limits: &Limits) -> RunError {
    if failure.message.len() > MAX_MESSAGE {
        let end = failure.message.floor_char_boundary(MAX_MESSAGE);
        failure.message.truncate(end);
        failure.message.push('…');
    }
    let too_large = |details: &Json| details.as_str().len() as u64 > limits.output_bytes;
    if failure.details.as_ref().is_some_and(too_large) {
        failure.details = None;
    }
    failure
}

fn error(code: ErrorCode, message: String) -> Outcome {
    Outcome::Error(trim(RunError::new(code, message), &Limits::DEFAULT))
}
