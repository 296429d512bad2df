//! What a call of `model.chat` asks for, checked, and as genai sends it.

use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, ChatResponseFormat, ChatRole, ContentPart, JsonSpec,
    MessageContent, ReasoningEffort, Tool, ToolCall, ToolName, ToolResponse,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::adapter::Adapter;
use super::names::{Names, tame};
use super::settings::Model;

/// The arguments, which fit the tool's schema.
#[derive(Debug, Deserialize)]
pub(super) struct Arguments {
    pub model: Option<String>,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<OfferedTool>,
    output: Option<OutputSchema>,
    pub max_tokens: Option<u32>,
    temperature: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: Role,
    #[serde(default)]
    content: String,
    #[serde(default)]
    tool_calls: Vec<MadeCall>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize)]
struct MadeCall {
    id: String,
    name: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Deserialize)]
struct OfferedTool {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct OutputSchema {
    name: Option<String>,
    schema: Value,
}

/// A change of what genai writes: the member `name` of the object at `place`, a
/// JSON pointer, is set or, without a value, removed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Amendment {
    pub place: String,
    pub name: &'static str,
    pub value: Option<Value>,
}

/// A call that is ready to be sent, as often as it takes.
#[derive(Debug)]
pub(super) struct Request {
    pub chat: ChatRequest,
    pub options: ChatOptions,
    /// What the provider's API can do and genai does not say.
    pub amendments: Vec<Amendment>,
    pub names: Names,
    /// Tokens that the request has, at a guess; for providers that count none.
    pub input_tokens: u64,
}

impl Arguments {
    /// Checks what a schema cannot say. `max_tokens` has the last word.
    pub fn request(self, model: Model<'_>, max_tokens: Option<u32>) -> Result<Request, String> {
        let mut names = Names::default();
        let input_tokens = tokens(self.size());
        let adapter = model.provider.adapter;
        let mut offered = Vec::new();
        for (index, tool) in self.tools.iter().enumerate() {
            if self.tools[..index].iter().any(|other| other.name == tool.name) {
                return Err(format!("`tools` has `{}` twice", tool.name));
            }
            offered.push(offer(tool, &mut names));
        }
        check(&self.messages)?;
        let mut amendments = exact_name(model);
        let (ids, known) = (Names::default(), &mut names);
        let messages = Messages { adapter, names: known, ids, amendments: &mut amendments };
        let mut chat = ChatRequest::new(messages.of(self.messages));
        if !offered.is_empty() {
            chat = chat.with_tools(offered);
        }
        let mut options = ChatOptions::default().with_capture_usage(true);
        options.max_tokens = max_tokens;
        options.temperature = self.temperature;
        if let Some(OutputSchema { name, schema }) = self.output {
            let name = tame(name.as_deref().unwrap_or("output"));
            if adapter == Adapter::Ollama {
                // genai knows Ollama's mode for any JSON only; the API takes a schema
                // in the same place.
                amendments.push(Amendment::set("", "format", schema));
            } else {
                options.response_format =
                    Some(ChatResponseFormat::JsonSpec(JsonSpec::new(name, schema)));
            }
        }
        Ok(Request { chat, options, amendments, names, input_tokens })
    }

    /// Bytes of text that the model reads.
    fn size(&self) -> usize {
        let messages = self.messages.iter().map(|message| {
            let calls = message.tool_calls.iter();
            let calls = calls.map(|call| call.name.len() + call.arguments.to_string().len());
            message.content.len() + calls.sum::<usize>()
        });
        let tools = self.tools.iter().map(|tool| {
            let parameters = tool.parameters.as_ref().map_or(0, |value| value.to_string().len());
            tool.name.len() + tool.description.len() + parameters
        });
        messages.sum::<usize>() + tools.sum::<usize>()
    }
}

/// The tokens of a text with that many bytes, at a guess.
pub(super) fn tokens(bytes: usize) -> u64 {
    const BYTES_A_TOKEN: u64 = 4;
    (bytes as u64).div_ceil(BYTES_A_TOKEN)
}

impl Amendment {
    fn set(place: impl Into<String>, name: &'static str, value: impl Into<Value>) -> Self {
        Self { place: place.into(), name, value: Some(value.into()) }
    }

    /// Makes the change; a place that is not there is left alone.
    pub fn make(&self, body: &mut Value) {
        let Some(Value::Object(object)) = body.pointer_mut(&self.place) else { return };
        match &self.value {
            Some(value) => drop(object.insert(self.name.to_owned(), value.clone())),
            None => drop(object.shift_remove(self.name)),
        }
    }
}

/// genai reads a namespace (`a::b`) and an effort (`…-max`) into names of models.
/// Where anybody can serve models of any name, the name is sent as it is.
fn exact_name(model: Model<'_>) -> Vec<Amendment> {
    if !matches!(model.provider.adapter, Adapter::OpenAi | Adapter::Ollama) {
        return Vec::new();
    }
    let mut amendments = vec![Amendment::set("", "model", model.name)];
    if ReasoningEffort::from_model_name(model.name).0.is_some() {
        amendments.push(Amendment { place: String::new(), name: "reasoning_effort", value: None });
    }
    amendments
}

fn offer(tool: &OfferedTool, names: &mut Names) -> Tool {
    let nothing = || json!({ "type": "object", "properties": {} });
    let parameters = tool.parameters.clone().unwrap_or_else(nothing);
    let name = ToolName::Custom(names.wire(&tool.name));
    Tool::new(name).with_description(tool.description.as_str()).with_schema(parameters)
}

fn check(messages: &[Message]) -> Result<(), String> {
    for (index, message) in messages.iter().enumerate() {
        if !message.tool_calls.is_empty() && message.role != Role::Assistant {
            return Err(format!("`messages[{index}]` has `tool_calls`, but is no `assistant`"));
        }
        if message.tool_call_id.is_some() != (message.role == Role::Tool) {
            let problem = if message.role == Role::Tool { "lacks" } else { "cannot have" };
            return Err(format!("`messages[{index}]` {problem} a `tool_call_id`"));
        }
    }
    if messages.iter().all(|message| message.role == Role::System) {
        return Err("`messages` has nothing but `system`".to_owned());
    }
    Ok(())
}

struct Messages<'a> {
    adapter: Adapter,
    names: &'a mut Names,
    ids: Names,
    amendments: &'a mut Vec<Amendment>,
}

impl Messages<'_> {
    fn of(mut self, messages: Vec<Message>) -> Vec<ChatMessage> {
        let mut called: Vec<(String, String)> = Vec::new();
        let mut all: Vec<ChatMessage> = Vec::new();
        for message in messages {
            match message.role {
                Role::System => all.push(ChatMessage::system(message.content)),
                Role::User => all.push(ChatMessage::user(message.content)),
                Role::Assistant => {
                    let calls: Vec<ToolCall> =
                        message.tool_calls.into_iter().map(|call| self.call(call)).collect();
                    called.extend(
                        calls.iter().map(|call| (call.call_id.clone(), call.fn_name.clone())),
                    );
                    all.push(said(message.content, calls));
                }
                Role::Tool => {
                    let id = self.id(message.tool_call_id.unwrap_or_default());
                    let name = called.iter().rev().find(|(call, _)| *call == id);
                    self.answer(&mut all, id, name.map(|(_, name)| name), message.content);
                }
            }
        }
        all
    }

    fn call(&mut self, call: MadeCall) -> ToolCall {
        // What a model once wrote that is no object is refused by the same APIs.
        let fn_arguments = match call.arguments {
            Value::Null => Value::Object(Map::new()),
            Value::Object(members) => Value::Object(members),
            other => json!({ "arguments": other }),
        };
        ToolCall {
            call_id: self.id(call.id),
            fn_name: self.names.wire(&call.name),
            fn_arguments,
            thought_signatures: None,
        }
    }

    /// Anthropic does not take ids such as genai makes for calls by Gemini.
    fn id(&mut self, id: String) -> String {
        if self.adapter == Adapter::Anthropic { self.ids.wire(&id) } else { id }
    }

    /// Answers to calls of one turn belong into one message, which genai takes apart
    /// where an API wants them one by one; but not for Ollama.
    fn answer(
        &mut self,
        all: &mut Vec<ChatMessage>,
        id: String,
        name: Option<&String>,
        content: String,
    ) {
        let mut response = ToolResponse::new(id, content);
        if self.adapter == Adapter::Ollama {
            if let Some(name) = name {
                let place = format!("/messages/{}", all.len());
                self.amendments.push(Amendment::set(place, "tool_name", name.as_str()));
            }
            all.push(ChatMessage::tool(MessageContent::from_tool_responses(vec![response])));
            return;
        }
        response.fn_name = name.cloned();
        match all.last_mut() {
            Some(last) if last.role == ChatRole::Tool => last.content.push(response),
            _ => all.push(ChatMessage::tool(MessageContent::from_tool_responses(vec![response]))),
        }
    }
}

/// A turn of the model. An empty text beside calls is left out, which APIs refuse.
fn said(text: String, calls: Vec<ToolCall>) -> ChatMessage {
    let text = (!text.is_empty() || calls.is_empty()).then_some(ContentPart::Text(text));
    let parts = text.into_iter().chain(calls.into_iter().map(ContentPart::ToolCall));
    ChatMessage::assistant(MessageContent::from_parts(parts.collect::<Vec<_>>()))
}
