//! Ctrl-C, from before a run starts: the first one cancels the run, the second one ends
//! the process.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::render::style;
use super::{exit, note};

/// Somebody who may press Ctrl-C. From here on that does not end the process by itself.
pub struct CtrlC(BoxFuture<'static, std::io::Result<()>>);

impl CtrlC {
    /// What is pressed from here on counts, whoever looks at it when.
    pub fn listen() -> Self {
        let mut pressed = tokio::signal::ctrl_c().boxed();
        // Its first poll is what takes the signal over.
        match (&mut pressed).now_or_never() {
            Some(result) => Self(std::future::ready(result).boxed()),
            None => Self(pressed),
        }
    }

    /// Waits for the first Ctrl-C and cancels; the second one ends the process at once,
    /// also if cancelling takes its time.
    pub async fn cancels(self, cancel: impl Future<Output = ()>) {
        if self.0.await.is_err() {
            return;
        }
        let again = Self::listen();
        note(format!("\n{} (again to leave at once)", style::warn("cancelling")));
        let leave = async {
            if again.0.await.is_ok() {
                std::process::exit(i32::from(exit::CANCELLED));
            }
        };
        tokio::join!(cancel, leave);
    }
}
