//! The agent at work: a plan, turns, an answer.

use serde_json::{Value, json};

use crate::answer::Form;
use crate::chat::{self, Answer, Message, OutputForm, Request, Role, Stop};
use crate::conversation::{Conversation, Turn};
use crate::exports::reenact::agent::guest::{Content, Failure};
use crate::failure::{failure, of_model, with_details};
use crate::host::Host;
use crate::manifest::{Config, Manifest, OutputType};
use crate::reenact::agent::tools::ToolCall;
use crate::toolbox::{MAX_CALLS, Room, Toolbox, cut, tidy};
use crate::{template, words};

/// Bytes of one event, and of a text in the details of a failure: enough to
/// read. Larger ones would be in the journal twice.
const MAX_EVENT_BYTES: u64 = 16 << 10;

/// Steps of a plan that are shown.
const MAX_STEPS: usize = 20;

/// One run under way.
pub struct Session<'a, H> {
    host: &'a mut H,
    manifest: &'a Manifest,
    pub config: Config,
    form: Form,
    toolbox: Toolbox,
    pub goal: String,
    pub conversation: Conversation,
    /// Answers of the model so far, without plan and notes.
    turns: u32,
    /// Useless answers so far.
    retries: u32,
    /// The beginning of a document that is longer than one message.
    draft: String,
    /// What the model wrote last, for the details of a failure.
    last_text: String,
    calls_left: u64,
}

/// Does the agent's work. `input` fits the manifest's schema.
pub fn run(manifest: &Manifest, input: &str, host: &mut impl Host) -> Result<Content, Failure> {
    let input: Value = serde_json::from_str(input)
        .map_err(|error| failure(format!("the input is not JSON: {error}")))?;
    let mut session = Session::open(manifest, &input, host)?;
    session.plan()?;
    session.work()
}

impl<'a, H: Host> Session<'a, H> {
    fn open(manifest: &'a Manifest, input: &Value, host: &'a mut H) -> Result<Self, Failure> {
        let config = manifest.config()?;
        let goal = template::fill("goal", &config.goal, input)?;
        let goal = words::goal(&goal.text, input, goal.refers);
        let own = config.system.as_ref().map(|own| template::fill("system", own, input));
        let own = own.transpose()?.map(|own| own.text);
        let conversation = Conversation::new(words::system(manifest, own.as_deref()), goal.clone());
        let (head, context) = (conversation.head_bytes(), config.context_bytes);
        if head > context / 2 {
            return Err(failure(format!(
                "goal and system message have {head} bytes, but may take at most half of the \
                 conversation, whose `context_bytes` is {context}"
            )));
        }
        let toolbox = Toolbox::of(host.available());
        let mut session = Self {
            host,
            manifest,
            form: Form::of(&manifest.output)?,
            toolbox,
            goal,
            conversation,
            turns: 0,
            retries: 0,
            draft: String::new(),
            last_text: String::new(),
            calls_left: manifest.limits.tool_calls(),
            config,
        };
        if !session.toolbox.left_out.is_empty() {
            let text = "These tools were granted, but a model cannot be offered them.";
            let data = json!({ "text": text, "tools": session.toolbox.left_out });
            session.emit("tools_left_out", data);
        }
        Ok(session)
    }

    /// Has the model write a plan, while it can call nothing.
    fn plan(&mut self) -> Result<(), Failure> {
        let text = format!("{}\n\n{}", self.goal, words::plan(&self.toolbox.definitions));
        let (system, ask) = (self.conversation.system(), Message::new(Role::User, text));
        let request = self.request(&[system, &ask], false)?;
        let answer = self.ask(request)?;
        let steps: Vec<&str> = answer.text().lines().filter_map(step).take(MAX_STEPS).collect();
        let data = json!({ "goal": self.goal, "steps": steps });
        self.emit("planning", data);
        // A plan must leave room for the work.
        let most = self.config.context_bytes / 8;
        if !answer.text().is_empty() {
            let plan = cut(answer.text(), most);
            self.conversation.plan(&plan, words::BEGIN);
        }
        Ok(())
    }

    fn work(&mut self) -> Result<Content, Failure> {
        while self.turns < self.config.max_turns {
            self.compress()?;
            let answer = self.turn()?;
            if !answer.tool_calls.is_empty() {
                if self.turns < self.config.max_turns {
                    self.use_tools(answer);
                }
            } else if let Some(content) = self.conclude(&answer)? {
                return Ok(content);
            }
        }
        let turns = self.turns;
        let details = json!({ "turns": turns, "last_text": self.last_text });
        Err(with_details(format!("there was no answer after {turns} turns (`max_turns`)"), details))
    }

    fn turn(&mut self) -> Result<Answer, Failure> {
        self.turns += 1;
        if self.turns == self.config.max_turns && self.turns > 1 {
            let last = Message::new(Role::User, words::LAST_TURN);
            self.conversation.push(Turn::new(vec![last]));
        }
        let request = self.request(&self.conversation.messages(), true)?;
        let answer = self.ask(request)?;
        if !answer.text().is_empty() {
            self.last_text = shortened(answer.text());
        }
        Ok(answer)
    }

    /// What the model is asked with. Only what is asked `at_work` may be answered
    /// with tool calls and has to be of the output's form.
    pub fn request(&self, messages: &[&Message], at_work: bool) -> Result<String, Failure> {
        let schema = self.manifest.output.schema.as_ref().filter(|_| at_work);
        let request = Request {
            model: self.config.model.as_deref(),
            messages,
            tools: if at_work { &self.toolbox.definitions } else { &[] },
            output: schema.map(|schema| OutputForm { name: &self.manifest.name, schema }),
            max_tokens: self.config.max_tokens,
            temperature: self.config.temperature,
        };
        serde_json::to_string(&request)
            .map_err(|error| failure(format!("the model cannot be asked: {error}")))
    }

    pub fn ask(&mut self, request: String) -> Result<Answer, Failure> {
        if self.calls_left == 0 {
            let details = json!({ "turns": self.turns, "last_text": self.last_text });
            let message = "the model cannot be asked again: the run's `tool_calls` are used up";
            return Err(with_details(message, details));
        }
        self.calls_left -= 1;
        let call = ToolCall { name: chat::TOOL.to_owned(), arguments: request };
        let answer = match self.host.call_all(&[call]).into_iter().next() {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return Err(of_model(&error, self.turns, &self.last_text)),
            None => return Err(failure("`model.chat` was called and did not answer")),
        };
        serde_json::from_str(&answer).map_err(|error| {
            let message = format!("`model.chat` answered something unexpected: {error}");
            with_details(message, json!({ "answer": shortened(&answer) }))
        })
    }

    /// Makes the calls that the model asks for and tells it what came of them.
    fn use_tools(&mut self, answer: Answer) {
        let text = answer.text().to_owned();
        if !text.is_empty() {
            self.emit("reasoning", json!({ "text": text }));
        }
        self.draft.clear();
        let asked = answer.tool_calls.len();
        let wanted = tidy(answer.tool_calls, self.turns);
        let room = Room {
            // One is kept, to ask the model what it makes of the answers.
            calls: self.calls_left.saturating_sub(1),
            at_once: self.manifest.limits.calls_at_once(),
            bytes: self.config.context_bytes / 4,
        };
        let (told, made) = self.toolbox.perform(&wanted, &room, self.host);
        self.calls_left = self.calls_left.saturating_sub(made);
        let answers: Vec<Message> =
            (wanted.iter().zip(told)).map(|(call, told)| Message::answers(call, told)).collect();
        let mut messages = vec![Message::calls(text, wanted)];
        messages.extend(answers);
        if asked > MAX_CALLS {
            let note = format!("Only the first {MAX_CALLS} of your {asked} calls were made.");
            messages.push(Message::new(Role::User, note));
        }
        self.conversation.push(Turn::new(messages));
    }

    /// Takes an answer without tool calls: the result, or something to be done again.
    fn conclude(&mut self, answer: &Answer) -> Result<Option<Content>, Failure> {
        let is_json = self.manifest.output.kind == OutputType::Json;
        match answer.stop {
            Stop::Other => {
                let details = json!({ "turns": self.turns, "text": shortened(answer.text()) });
                let message =
                    "the model ended its answer for a reason of its own, such as a refusal";
                Err(with_details(message, details))
            }
            _ if answer.text().is_empty() => {
                self.again("the model answered nothing", words::EMPTY.to_owned(), &[], "")
            }
            Stop::Length if is_json => {
                let problem = ["it reached the limit of one message and is cut".to_owned()];
                self.again(UNFIT, words::CUT_JSON.to_owned(), &problem, answer.text())
            }
            Stop::Length => {
                self.draft += answer.verbatim();
                let (said, go_on) = (answer.text().to_owned(), words::GO_ON);
                self.conversation.push(exchange(said, go_on.to_owned()));
                Ok(None)
            }
            Stop::End | Stop::ToolCalls => {
                let whole = std::mem::take(&mut self.draft) + answer.verbatim();
                match self.form.judge(&whole) {
                    Ok(content) => Ok(Some(content)),
                    Err(problems) => {
                        let words = words::does_not_fit(&problems);
                        self.again(UNFIT, words, &problems, answer.text())
                    }
                }
            }
        }
    }

    /// Has the model answer once more, or gives up for the reason `why`.
    fn again(
        &mut self,
        why: &str,
        words: String,
        problems: &[String],
        said: &str,
    ) -> Result<Option<Content>, Failure> {
        let details = json!({ "violations": problems, "answer": shortened(said) });
        if self.retries == self.config.output_retries {
            let tries = self.retries + 1;
            let times = if tries == 1 { String::new() } else { format!(", {tries} times") };
            return Err(with_details(format!("{why}{times} (`output_retries`)"), details));
        }
        self.retries += 1;
        self.emit("output_rejected", details);
        self.conversation.push(exchange(said.to_owned(), words));
        Ok(None)
    }

    /// Records an event. Its texts are shortened until it fits into the limit:
    /// an event that is too large would end the run.
    pub fn emit(&mut self, kind: &str, mut data: Value) {
        let limit = self.manifest.limits.event_bytes().min(MAX_EVENT_BYTES) as usize;
        let mut chars = limit;
        while data.to_string().len() > limit && chars > 0 {
            chars /= 2;
            clip(&mut data, chars);
        }
        self.host.emit(kind, &data);
    }
}

const UNFIT: &str = "the model's answer does not fit the output schema";

/// What the model said, unless that is nothing, and what it is told.
fn exchange(said: String, told: String) -> Turn {
    let said = Some(said).filter(|said| !said.is_empty());
    let said = said.map(|said| Message::new(Role::Assistant, said));
    Turn::new(said.into_iter().chain([Message::new(Role::User, told)]).collect())
}

/// A line of a plan without its bullet or number.
fn step(line: &str) -> Option<&str> {
    let bullet =
        |c: char| c.is_ascii_digit() || matches!(c, '-' | '*' | '•' | '.' | ')' | '#' | ' ');
    let text = line.trim().trim_start_matches(bullet);
    Some(text).filter(|text| !text.is_empty())
}

fn shortened(text: &str) -> String {
    cut(text, MAX_EVENT_BYTES as usize)
}

/// Cuts every text in `value` to so many characters.
fn clip(value: &mut Value, chars: usize) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(chars) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| clip(item, chars)),
        Value::Object(members) => members.values_mut().for_each(|member| clip(member, chars)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
