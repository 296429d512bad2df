//! A server's run while it happens, to its end.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use serde_json::Value;

use super::desk::{RemoteDesk, question};
use super::report::short;
use crate::cli::desk::{OnAsk, notice};
use crate::cli::execute::Form;
use crate::cli::render::entry::terminal_width;
use crate::cli::render::event::{EventLines, is_start};
use crate::cli::render::{style, text};
use crate::cli::watch::{Events, spinner};
use crate::cli::{Failure, Global, note, say};
use crate::client::{Client, ClientError, Decision, Step};
use crate::service::events::ApiEvent;

/// Follows one run.
pub struct Watcher<'a> {
    client: &'a Client,
    global: &'a Global,
    form: &'a Form,
    run: String,
    spinner: ProgressBar,
    lines: EventLines,
    desk: RemoteDesk,
    /// Calls that have no answer yet, by what brought them up.
    under_way: BTreeMap<u64, String>,
}

/// Why nobody watches any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    AtItsEnd,
    /// A call waits for a person, and the run is to be left then.
    Waiting,
}

impl<'a> Watcher<'a> {
    pub fn new(client: &'a Client, global: &'a Global, form: &'a Form, run: &str) -> Self {
        let pretty = form.events == Events::Pretty;
        let spinner = if pretty { spinner() } else { ProgressBar::hidden() };
        let desk = RemoteDesk::new(spinner.clone(), pretty && form.on_ask == OnAsk::Wait);
        Self {
            client,
            global,
            form,
            run: run.to_owned(),
            spinner,
            lines: EventLines::new(terminal_width()),
            desk,
            under_way: BTreeMap::new(),
        }
    }

    /// Shows what happens until the run ends.
    pub async fn watch(mut self) -> Result<Left, Failure> {
        let left = self.follow().await;
        self.spinner.finish_and_clear();
        left.map_err(|error| {
            Failure::from(error).context(format!("cannot follow run {} any longer", self.run))
        })
    }

    async fn follow(&mut self) -> Result<Left, ClientError> {
        let mut following = self.client.follow(&self.run);
        loop {
            let step = tokio::select! {
                step = following.next() => step?,
                (call, decision) = self.desk.decided() => {
                    self.decide(call, &decision).await?;
                    continue;
                }
            };
            match step {
                None => return Ok(Left::AtItsEnd),
                Some(Step::End(event)) => self.show(&event, true),
                Some(Step::Event(event)) => {
                    self.show(&event, false);
                    if self.is_question(&event) && !self.answer(&event).await? {
                        return Ok(Left::Waiting);
                    }
                }
                Some(Step::Lost { cause }) => self.remark(format!(
                    "{}: lost the server: {}: trying to get it back",
                    style::warn("note"),
                    text::line(&cause, 300)
                )),
                Some(Step::Back) => {
                    self.remark(format!("{}: the server is back", style::good("note")));
                }
            }
        }
    }

    fn remark(&self, text: impl std::fmt::Display) {
        self.spinner.suspend(|| note(text));
    }

    fn show(&mut self, event: &ApiEvent, is_last: bool) {
        match self.form.events {
            Events::None => {}
            Events::Ndjson => say(serde_json::to_string(event).unwrap_or_default()),
            Events::Pretty => {
                if is_start(event) {
                    self.remark(header(event));
                }
                let line = self.lines.line(event, is_last);
                // The error is printed whole after the run.
                if let Some(line) = line.filter(|_| !(is_last && event.kind == "error")) {
                    self.remark(line);
                }
                self.spin(event);
            }
        }
    }

    fn spin(&mut self, event: &ApiEvent) {
        if let ("tool_call", Some(call)) = (event.kind.as_str(), call_of(event)) {
            match event.finished_at {
                None => drop(self.under_way.insert(call, self.lines.under_way(&event.data))),
                Some(_) => drop(self.under_way.remove(&call)),
            }
        }
        let message = match self.under_way.values().next() {
            Some(call) => format!("tool_call {call}"),
            None => "running".to_owned(),
        };
        self.spinner.set_message(message);
    }

    /// Whether a call may wait for a person. An agent may say the same of its own, which is
    /// why the server is asked what waits.
    fn is_question(&mut self, event: &ApiEvent) -> bool {
        let Some(call) = call_of(event).filter(|_| event.kind == "approval") else { return false };
        if event.finished_at.is_some() {
            self.desk.take_back(call);
        }
        event.finished_at.is_none()
    }

    /// Has a call decided about; `false` if nobody is to wait for that.
    async fn answer(&mut self, event: &ApiEvent) -> Result<bool, ClientError> {
        let waiting = self.client.approvals(&self.run).await?;
        let waiting = waiting.iter().find(|waiting| call_of(event) == Some(waiting.call));
        let Some(waiting) = waiting else { return Ok(true) };
        match self.form.on_ask {
            OnAsk::Leave => return Ok(false),
            OnAsk::Deny => {
                let reason = "nobody is there to ask".to_owned();
                self.decide(waiting.call, &Decision::Deny(reason)).await?;
            }
            OnAsk::Wait => {
                let question = question(&self.run, waiting);
                let approve = self.global.again("approve");
                let notice = notice(&question, &approve);
                if !self.desk.ask(question) {
                    self.remark(notice);
                }
            }
        }
        Ok(true)
    }

    /// Sends a decision. That somebody else was first is no reason to stop.
    async fn decide(&mut self, call: u64, decision: &Decision) -> Result<(), ClientError> {
        match self.client.decide(&self.run, call, decision).await {
            Ok(_) => Ok(()),
            Err(ClientError::Problem(problem)) if matches!(problem.status, 403 | 404 | 409) => {
                let detail = text::line(&problem.detail, 300);
                self.remark(format!("{}: {detail}", style::warn("note")));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn call_of(event: &ApiEvent) -> Option<u64> {
    event.data.get("call").and_then(Value::as_u64)
}

fn header(event: &ApiEvent) -> String {
    let member = |name: &str| event.data.get(name).and_then(Value::as_str).unwrap_or_default();
    let tools = event.data.get("tools").and_then(Value::as_array);
    let tools: Vec<&str> = tools.into_iter().flatten().filter_map(Value::as_str).collect();
    let tools = if tools.is_empty() { "no tools".to_owned() } else { tools.join(", ") };
    format!(
        "{} {} · {}@{} · {}",
        style::label("run"),
        style::strong(text::line(&event.run_id, 64)),
        text::line(member("agentId"), 63),
        short(member("revisionId")),
        text::safe(&tools),
    )
}
