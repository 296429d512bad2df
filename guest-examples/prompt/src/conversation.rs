//! What was said so far: a head that stays, then turns, of which the oldest can
//! be put in short.

use crate::chat::{Message, Role};

/// An answer of the model with all that was answered to it: a tool call is
/// never parted from its answer.
pub struct Turn(Vec<Message>);

pub struct Conversation {
    /// The system message, the goal, perhaps the plan.
    head: Vec<Message>,
    /// The last text of the head, before any notes.
    opening: String,
    notes: Option<String>,
    turns: Vec<Turn>,
}

impl Turn {
    pub fn new(messages: Vec<Message>) -> Self {
        Self(messages)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(Message::bytes).sum()
    }
}

impl Conversation {
    /// `opening` is the goal, the first message of the user.
    pub fn new(system: String, opening: String) -> Self {
        let head = vec![Message::new(Role::System, system), Message::new(Role::User, &*opening)];
        Self { head, opening, notes: None, turns: vec![] }
    }

    /// Makes the plan a part of the head.
    pub fn plan(&mut self, plan: &str, begin: &str) {
        self.head.push(Message::new(Role::Assistant, plan));
        self.head.push(Message::new(Role::User, begin));
        self.opening = begin.to_owned();
    }

    pub fn push(&mut self, turn: Turn) {
        self.turns.push(turn);
    }

    pub fn messages(&self) -> Vec<&Message> {
        self.head.iter().chain(self.turns.iter().flat_map(|turn| &turn.0)).collect()
    }

    pub fn system(&self) -> &Message {
        &self.head[0]
    }

    pub fn head_bytes(&self) -> usize {
        self.head.iter().map(Message::bytes).sum()
    }

    pub fn bytes(&self) -> usize {
        self.head_bytes() + self.turns.iter().map(Turn::bytes).sum::<usize>()
    }

    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// How many of the oldest turns have to go so that those that stay have at
    /// most `bytes`. The newest stays, however large.
    pub fn surplus(&self, bytes: usize) -> usize {
        let mut kept = 0;
        let stay = self.turns.iter().rev().enumerate().take_while(|(newer, turn)| {
            kept += turn.bytes();
            *newer == 0 || kept <= bytes
        });
        self.turns.len() - stay.count()
    }

    /// The notes so far and the oldest `turns` turns, as text.
    pub fn transcript(&self, turns: usize) -> String {
        let mut text = match &self.notes {
            Some(notes) => format!("Notes so far:\n{notes}\n"),
            None => String::new(),
        };
        for message in self.turns[..turns].iter().flat_map(|turn| &turn.0) {
            let who = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "agent",
                Role::Tool => "tool",
            };
            if !message.content.is_empty() {
                text += &format!("\n{who}: {}\n", message.content);
            }
            for call in &message.tool_calls {
                text += &format!("\n{who} calls {} {}\n", call.name, call.arguments);
            }
        }
        text
    }

    /// Puts `notes`, made by `put` from the text given, in place of the oldest
    /// `turns` turns and of the notes before them.
    pub fn shorten(&mut self, turns: usize, notes: String, put: impl Fn(&str) -> String) {
        self.turns.drain(..turns);
        let last = self.head.last_mut().expect("the head holds the goal");
        // In the same message, because some models take no two of one role in a row.
        last.content = format!("{}\n\n{}", self.opening, put(&notes));
        self.notes = Some(notes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::ToolUse;

    fn turn(text: &str, answer: &str) -> Turn {
        let call = ToolUse { id: "1".into(), name: "a.b".into(), arguments: json!({ "n": 1 }) };
        let answers = Message::answers(&call, answer.to_owned());
        Turn::new(vec![Message::calls(text, vec![call]), answers])
    }

    fn conversation() -> Conversation {
        let mut conversation = Conversation::new("system".into(), "goal".into());
        conversation.plan("- look", "begin");
        for n in 1..=4 {
            conversation.push(turn(&format!("turn {n}"), &"x".repeat(100)));
        }
        conversation
    }

    #[test]
    fn the_newest_turns_stay_whole() {
        let conversation = conversation();
        assert_eq!(conversation.surplus(1_000), 0);
        assert_eq!(conversation.surplus(250), 2);
        assert_eq!(conversation.surplus(0), 3);
        assert_eq!(Conversation::new(String::new(), String::new()).surplus(0), 0);
    }

    #[test]
    fn notes_take_the_place_of_turns_and_of_older_notes() {
        let mut conversation = conversation();
        let transcript = conversation.transcript(2);
        assert!(transcript.contains("\nagent: turn 1\n\nagent calls a.b {\"n\":1}\n\ntool: xxx"));
        assert!(!transcript.contains("turn 3"));
        conversation.shorten(2, "found two".into(), |notes| format!("notes: {notes}"));
        assert_eq!(conversation.messages()[3].content, "begin\n\nnotes: found two");
        assert!(
            conversation.transcript(1).starts_with("Notes so far:\nfound two\n\nagent: turn 3")
        );
        conversation.shorten(1, "found three".into(), |notes| format!("notes: {notes}"));
        assert_eq!(conversation.messages()[3].content, "begin\n\nnotes: found three");
        assert_eq!(conversation.turns(), 1);
    }
}
