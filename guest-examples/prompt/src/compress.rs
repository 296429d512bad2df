//! Keeps the conversation within its bytes: older turns become notes, which the
//! model writes.

use serde_json::json;

use crate::agent::Session;
use crate::chat::{Message, Role};
use crate::exports::reenact::agent::guest::Failure;
use crate::host::Host;
use crate::{toolbox, words};

/// What takes the place of turns that the model would not put in short.
const NOTHING: &str = "(The model wrote no notes of its first turns.)";

impl<H: Host> Session<'_, H> {
    /// Shortens the conversation if it has outgrown `context_bytes`. The head
    /// and the newest turns stay as they are.
    pub fn compress(&mut self) -> Result<(), Failure> {
        let before = self.conversation.bytes();
        if before <= self.config.context_bytes {
            return Ok(());
        }
        let room = self.config.context_bytes.saturating_sub(self.conversation.head_bytes());
        let turns = self.conversation.surplus(room / 2);
        if turns == 0 {
            return Ok(());
        }
        let notes = self.notes(turns)?;
        self.conversation.shorten(turns, notes.clone(), words::notes);
        let data = json!({
            "text": notes,
            "turns": turns,
            "turns_kept": self.conversation.turns(),
            "bytes_before": before,
            "bytes_after": self.conversation.bytes(),
        });
        self.emit("context_compression", data);
        Ok(())
    }

    fn notes(&mut self, turns: usize) -> Result<String, Failure> {
        let most = self.config.context_bytes / 8;
        let system = Message::new(Role::System, words::summarise(most));
        let transcript = self.conversation.transcript(turns);
        let text = format!("The goal:\n{}\n\n{transcript}", self.goal);
        let request = self.request(&[&system, &Message::new(Role::User, text)], false)?;
        let answer = self.ask(request)?;
        Ok(match answer.text() {
            "" => NOTHING.to_owned(),
            // A model that does not keep to the length must not undo the work.
            text => toolbox::cut(text, most * 2),
        })
    }
}
