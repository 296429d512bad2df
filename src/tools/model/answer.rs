//! A model's answer, put together from what genai streams, within bounds.

use genai::chat::{StopReason, StreamEnd, ToolCall};
use serde_json::{Map, Value, json};

use super::adapter::{Adapter, Pieces};
use super::fault::Fault;
use super::names::Names;

/// No model writes as much, and no guest could read it.
const MAX_TEXT: usize = 8 << 20;
/// Of the arguments of all calls in one answer.
const MAX_ARGUMENTS: usize = 1 << 20;
const MAX_CALLS: usize = 256;

/// An answer, as far as it has come.
#[derive(Debug)]
pub(super) struct Answer {
    adapter: Adapter,
    pub text: String,
    calls: Vec<Called>,
    arguments: usize,
    stop: Option<StopReason>,
    usage: Option<Tokens>,
}

/// A call of a tool that the model asks for.
#[derive(Debug, PartialEq)]
struct Called {
    id: String,
    name: String,
    arguments: Arguments,
}

#[derive(Debug, PartialEq)]
enum Arguments {
    /// What should be JSON when it is complete.
    Text(String),
    Whole(Value),
}

/// What the provider counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    pub input: u64,
    pub output: u64,
}

impl Answer {
    pub fn new(adapter: Adapter) -> Self {
        let text = String::new();
        Self { adapter, text, calls: Vec::new(), arguments: 0, stop: None, usage: None }
    }

    pub fn add_text(&mut self, piece: &str) -> Result<(), Fault> {
        if self.text.len() + piece.len() > MAX_TEXT {
            return Err(Fault::TooLarge { what: "8 MiB of text" });
        }
        self.text.push_str(piece);
        Ok(())
    }

    pub fn add_call(&mut self, piece: ToolCall) -> Result<(), Fault> {
        let ToolCall { call_id: id, fn_name: name, fn_arguments, .. } = piece;
        let text = match fn_arguments {
            Value::String(text) if self.adapter.pieces() != Pieces::Whole => text,
            whole => return self.add_whole(id, name, whole),
        };
        let at = match self.find(&id, &name) {
            Some(at) => at,
            None => self.begin(id, name, Arguments::Text(String::new()))?,
        };
        let Arguments::Text(known) = &mut self.calls[at].arguments else { return Ok(()) };
        let before = known.len();
        match self.adapter.pieces() {
            Pieces::SoFar => *known = text,
            Pieces::Added | Pieces::Whole => known.push_str(&text),
        }
        let after = known.len();
        self.arguments = (self.arguments + after).saturating_sub(before);
        self.within_bounds()
    }

    /// The call that a piece belongs to. Only a call's first piece has to have its
    /// id and name; without an id, genai names it by its index.
    fn find(&self, id: &str, name: &str) -> Option<usize> {
        let known = self.calls.iter().position(|call| call.id == id);
        if known.is_some() || !name.is_empty() || self.calls.is_empty() {
            return known;
        }
        let index = id.strip_prefix("call_").and_then(|index| index.parse::<usize>().ok());
        index.filter(|index| *index < self.calls.len()).or(Some(self.calls.len() - 1))
    }

    fn add_whole(&mut self, id: String, name: String, arguments: Value) -> Result<(), Fault> {
        self.arguments += arguments.to_string().len();
        // genai's stand-ins for Gemini's ids begin anew with each piece of a stream.
        let is_new = |id: &String| self.calls.iter().all(|call| call.id != *id);
        let stand_ins = (self.calls.len()..).map(|n| format!("call#{name}#{n}"));
        let mut ids = std::iter::once(id).chain(stand_ins);
        let id = ids.find(is_new).expect("there are more numbers than calls");
        self.begin(id, name, Arguments::Whole(arguments))?;
        self.within_bounds()
    }

    fn begin(&mut self, id: String, name: String, arguments: Arguments) -> Result<usize, Fault> {
        self.arguments += id.len() + name.len();
        self.calls.push(Called { id, name, arguments });
        self.within_bounds()?;
        Ok(self.calls.len() - 1)
    }

    fn within_bounds(&self) -> Result<(), Fault> {
        if self.calls.len() > MAX_CALLS {
            return Err(Fault::TooLarge { what: "256 calls of tools" });
        }
        if self.arguments > MAX_ARGUMENTS {
            return Err(Fault::TooLarge { what: "1 MiB of arguments for tools" });
        }
        Ok(())
    }

    /// Takes the end of a stream; answers whether the answer is complete. genai
    /// tells an end of Gemini's and Ollama's streams where there was none.
    pub fn end(&mut self, end: StreamEnd) -> bool {
        self.usage = end.captured_usage.as_ref().map(count);
        self.stop = end.captured_stop_reason;
        match self.adapter {
            Adapter::OpenAi | Adapter::Anthropic => true,
            Adapter::Gemini => self.stop.is_some(),
            Adapter::Ollama => self.usage.is_some(),
        }
    }

    /// What the provider counted, if it did.
    pub fn tokens(&self) -> Option<Tokens> {
        self.usage.filter(|usage| usage.input > 0 || usage.output > 0)
    }

    /// Bytes that the model wrote.
    pub fn size(&self) -> usize {
        self.text.len() + self.arguments
    }

    /// The answer of `model.chat`.
    pub fn content(self, model: &str, names: &Names, tokens: Tokens) -> Value {
        let stop = self.stop();
        let calls: Vec<Value> = self.calls.into_iter().map(|call| call.content(names)).collect();
        json!({
            "model": model,
            "text": self.text,
            "tool_calls": calls,
            "stop": stop,
            "usage": { "input_tokens": tokens.input, "output_tokens": tokens.output },
        })
    }

    fn stop(&self) -> &'static str {
        match &self.stop {
            Some(StopReason::MaxTokens(_)) => "length",
            Some(StopReason::ContentFilter(_) | StopReason::Other(_)) => "other",
            // Gemini and Ollama stop for calls as they do for the end.
            _ if !self.calls.is_empty() => "tool_calls",
            _ => "end",
        }
    }
}

impl Called {
    fn content(self, names: &Names) -> Value {
        let arguments = match self.arguments {
            Arguments::Whole(Value::Null) => Value::Object(Map::new()),
            Arguments::Whole(value) => value,
            Arguments::Text(text) if text.trim().is_empty() => Value::Object(Map::new()),
            Arguments::Text(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        };
        json!({ "id": self.id, "name": names.own(&self.name), "arguments": arguments })
    }
}

fn count(usage: &genai::chat::Usage) -> Tokens {
    let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok());
    // Where a model only thought, Gemini counts no other output.
    let details = usage.completion_tokens_details.as_ref();
    let thought = details.and_then(|details| count(details.reasoning_tokens));
    Tokens {
        input: count(usage.prompt_tokens).unwrap_or(0),
        output: count(usage.completion_tokens).or(thought).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Tokens = Tokens { input: 0, output: 0 };

    fn piece(id: &str, name: &str, arguments: impl Into<Value>) -> ToolCall {
        ToolCall {
            call_id: id.into(),
            fn_name: name.into(),
            fn_arguments: arguments.into(),
            thought_signatures: None,
        }
    }

    fn calls(adapter: Adapter, pieces: &[(&str, &str, Value)]) -> Value {
        let mut answer = Answer::new(adapter);
        for (id, name, arguments) in pieces {
            answer.add_call(piece(id, name, arguments.clone())).unwrap();
        }
        answer.content("x", &Names::default(), NOTHING)["tool_calls"].take()
    }

    #[test]
    fn calls_are_put_together_from_their_pieces() {
        let first = json!({ "id": "a", "name": "f", "arguments": { "x": 1 } });
        let second = json!({ "id": "b", "name": "f", "arguments": { "y": 2 } });
        let both = json!([first, second]);
        let text = |text: &str| Value::from(text);
        // As OpenAI streams: the index alone says where a piece belongs.
        let pieces = [
            ("a", "f", text("")),
            ("b", "f", text("{")),
            ("call_0", "", text("{\"x\":")),
            ("call_1", "", text("\"y\":2}")),
            ("call_0", "", text("1}")),
        ];
        assert_eq!(calls(Adapter::OpenAi, &pieces), both);
        // As some servers do: everything is said each time.
        let pieces =
            [("a", "f", text("{\"x\":")), ("a", "f", text("1}")), ("b", "f", text("{\"y\":2}"))];
        assert_eq!(calls(Adapter::OpenAi, &pieces), both);
        let pieces = [
            ("a", "f", text("")),
            ("a", "f", text("{\"x\"")),
            ("a", "f", text("{\"x\":1}")),
            ("b", "f", text("{\"y\":2}")),
        ];
        assert_eq!(calls(Adapter::Anthropic, &pieces), both);
        let pieces = [("a", "f", json!({ "x": 1 })), ("a", "f", json!({ "y": 2 }))];
        let ids = calls(Adapter::Gemini, &pieces);
        assert_eq!((&ids[0]["id"], &ids[1]["id"]), (&json!("a"), &json!("call#f#1")));
    }

    #[test]
    fn arguments_that_are_no_json_are_given_as_they_are() {
        let said =
            |text: &str| calls(Adapter::OpenAi, &[("a", "f", text.into())])[0]["arguments"].take();
        assert_eq!(said("{\"x\":"), json!("{\"x\":"));
        assert_eq!(said("[1]"), json!([1]));
        assert_eq!(said(""), json!({}));
        assert_eq!(said(&"[".repeat(200)), json!("[".repeat(200)));
        assert_eq!(calls(Adapter::Ollama, &[("a", "f", Value::Null)])[0]["arguments"], json!({}));
    }

    #[test]
    fn an_answer_without_end_is_cut_off() {
        let mut answer = Answer::new(Adapter::OpenAi);
        let megabyte = "x".repeat(1 << 20);
        let taken = (0..100).take_while(|_| answer.add_text(&megabyte).is_ok()).count();
        assert_eq!(taken, 8);
        for adapter in [Adapter::OpenAi, Adapter::Gemini] {
            let mut answer = Answer::new(adapter);
            let chunk = || piece("a", "f", "x".repeat(100_000));
            assert!((0..20).any(|_| answer.add_call(chunk()).is_err()), "{adapter:?}");
            let mut answer = Answer::new(adapter);
            let many = (0..300).any(|n| answer.add_call(piece(&n.to_string(), "f", "")).is_err());
            assert!(many, "{adapter:?}");
        }
    }

    #[test]
    fn the_stop_is_told_alike_for_all() {
        let stop = |reason: Option<&str>, calls: usize| {
            let mut answer = Answer::new(Adapter::Gemini);
            (0..calls).for_each(|_| answer.add_call(piece("a", "f", Value::Null)).unwrap());
            answer.stop = reason.map(|reason| StopReason::from(reason.to_owned()));
            answer.stop()
        };
        assert_eq!(stop(Some("stop"), 0), "end");
        assert_eq!(stop(None, 0), "end");
        assert_eq!(stop(Some("STOP"), 1), "tool_calls");
        assert_eq!(stop(Some("tool_use"), 1), "tool_calls");
        assert_eq!(stop(Some("MAX_TOKENS"), 1), "length");
        assert_eq!(stop(Some("SAFETY"), 0), "other");
        assert_eq!(stop(Some("pause_turn"), 0), "other");
    }
}
