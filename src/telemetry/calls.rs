//! How calls are described: those of models, and those of other tools.

use opentelemetry::trace::SpanKind;
use opentelemetry::{Array, StringValue, Value};
use serde_json::Value as JsonValue;

use super::contents::{Contents, messages_of_answer, messages_of_chat};
use super::spans::{Open, int};
use crate::journal::{Answer, ToolAnswered, ToolCalled, Usage};

/// The tool by which agents call models.
const CHAT: &str = "model.chat";

/// Says what the span of a call is about. One without an answer was interrupted.
pub fn describe(
    span: &mut Open,
    call: &ToolCalled,
    answered: Option<&ToolAnswered>,
    contents: &mut Contents,
) {
    match call.name.as_str() {
        CHAT => chat(span, call, answered, contents),
        _ => tool(span, call, answered, contents),
    }
    let Some(answered) = answered else { return };
    if !answered.attempts.is_empty() {
        span.set("reenact.failed_attempts", int(answered.attempts.len() as u64));
    }
    if let Answer::Error(error) = &answered.answer {
        let code = serde_json::to_value(error.code).ok();
        let code = code.as_ref().and_then(JsonValue::as_str).unwrap_or("_OTHER").to_owned();
        // The message may repeat what was read or written.
        let message = if contents.are_wanted() { error.message.clone() } else { code.clone() };
        span.fail(code, message);
    }
}

fn tool(
    span: &mut Open,
    call: &ToolCalled,
    answered: Option<&ToolAnswered>,
    contents: &mut Contents,
) {
    span.name = format!("execute_tool {}", call.name).into();
    span.set("gen_ai.operation.name", "execute_tool");
    span.set("gen_ai.tool.name", call.name.clone());
    span.set("gen_ai.tool.type", "function");
    span.set("gen_ai.tool.call.id", call.call.to_string());
    contents.json(span, "gen_ai.tool.call.arguments", &call.arguments);
    if let Some(Answer::Ok(output)) = answered.map(|answered| &answered.answer) {
        contents.json(span, "gen_ai.tool.call.result", &output.content);
    }
}

fn chat(
    span: &mut Open,
    call: &ToolCalled,
    answered: Option<&ToolAnswered>,
    contents: &mut Contents,
) {
    let asked = call.arguments.to_value();
    let answer = match answered.map(|answered| &answered.answer) {
        Some(Answer::Ok(output)) => output.content.to_value(),
        _ => JsonValue::Null,
    };
    span.kind = SpanKind::Client;
    span.set("gen_ai.operation.name", "chat");
    // The operator's default is named by the answer alone.
    let model = asked["model"].as_str().or(answer["model"].as_str());
    match model {
        None => span.name = "chat".into(),
        Some(id) => {
            // The agent's text: a long one is no model.
            let id: String = id.chars().take(300).collect();
            let (provider, model) = id.split_once(':').unwrap_or(("", &id));
            span.name = format!("chat {model}").into();
            if !provider.is_empty() {
                span.set("gen_ai.provider.name", well_known(provider));
            }
            span.set("gen_ai.request.model", model.to_owned());
        }
    }
    if let Some(tokens) = asked["max_tokens"].as_u64() {
        span.set("gen_ai.request.max_tokens", int(tokens));
    }
    if let Some(temperature) = asked["temperature"].as_f64() {
        span.set("gen_ai.request.temperature", temperature);
    }
    if !asked["output"].is_null() {
        span.set("gen_ai.output.type", "json");
    }
    if let Some(usage) = answered.and_then(|answered| answered.usage.as_ref()) {
        set_usage(span, usage);
    }
    if let Some(stop) = answer["stop"].as_str() {
        let reasons = vec![StringValue::from(finish_reason(stop))];
        span.set("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons)));
    }
    contents.set(span, "gen_ai.input.messages", || messages_of_chat(&asked["messages"]));
    if !answer.is_null() {
        let reason = answer["stop"].as_str().map_or("stop", finish_reason);
        contents.set(span, "gen_ai.output.messages", || messages_of_answer(&answer, reason));
    }
}

/// What models cost, unless that is nothing.
pub fn set_usage(span: &mut Open, usage: &Usage) {
    if usage.tokens() > 0 {
        span.set("gen_ai.usage.input_tokens", int(usage.input_tokens));
        span.set("gen_ai.usage.output_tokens", int(usage.output_tokens));
    }
    if let Some(cost) = usage.cost_micros.filter(|cost| *cost > 0) {
        span.set("reenact.usage.cost_micros", int(cost));
    }
}

/// Providers as the conventions name them.
fn well_known(provider: &str) -> String {
    match provider {
        "gemini" => "gcp.gemini",
        own => own,
    }
    .to_owned()
}

/// Why a model stopped, as the conventions say it.
fn finish_reason(stop: &str) -> &'static str {
    match stop {
        "tool_calls" => "tool_call",
        "length" => "length",
        "end" => "stop",
        _ => "other",
    }
}
