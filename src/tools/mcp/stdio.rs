//! MCP over a process's stdin and stdout: one JSON message a line.
//!
//! `rmcp` brings such a transport too. This one answers in the server's place
//! where that one lets a call wait for its time to run out: when a line is too
//! large, and when it is JSON but no message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::process::Exited;
use super::scan::{self, MAX_MESSAGE, Scan};

/// A server that takes longer to read what it is sent has stopped reading. What
/// it has not read is held in memory.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines in a row that are no messages. Many servers print a greeting where it
/// does not belong; one that prints for ever speaks another protocol.
const MAX_STRAYS: usize = 1_000;

/// Bytes of a line that is too large. It is read to its end, because the next
/// message stands behind it, but not for ever.
const MAX_LINE: u64 = 256 << 20;

/// How long a server that has exited may still be heard. A program that it left
/// behind can hold its stdout for ever.
const ECHO: Duration = Duration::from_millis(200);

pub struct Stdio<R = BufReader<ChildStdout>, W = ChildStdin> {
    lines: Lines<R>,
    exited: Exited,
    strays: usize,
    writer: Arc<Mutex<Option<W>>>,
    over: Arc<AtomicBool>,
}

impl Stdio {
    /// `over` becomes true when the server hangs up.
    pub fn new(
        stdin: ChildStdin,
        stdout: ChildStdout,
        exited: Exited,
        over: Arc<AtomicBool>,
    ) -> Self {
        Self::of(BufReader::with_capacity(64 << 10, stdout), stdin, exited, over)
    }
}

impl<R: AsyncBufRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Stdio<R, W> {
    fn of(reader: R, writer: W, exited: Exited, over: Arc<AtomicBool>) -> Self {
        let lines = Lines { reader, line: Vec::new(), large: None };
        Self { lines, exited, strays: 0, writer: Arc::new(Mutex::new(Some(writer))), over }
    }

    async fn line(&mut self) -> Line {
        tokio::select! {
            biased;
            line = self.lines.next() => return line,
            _ = self.exited.wait_for(Option::is_some) => {}
        }
        let rest = tokio::time::timeout(ECHO, self.lines.next()).await;
        rest.unwrap_or(Line::End)
    }

    /// The next message; none if the server hung up or speaks no MCP.
    async fn next(&mut self) -> Option<ServerJsonRpcMessage> {
        while self.strays < MAX_STRAYS {
            let message = match self.line().await {
                Line::End => return None,
                Line::TooLarge(id) => id.map(scan::too_large),
                Line::Whole(line) => parse(&line),
            };
            match message {
                Some(message) => {
                    self.strays = 0;
                    return Some(message);
                }
                None => self.strays += 1,
            }
        }
        tracing::debug!("a server wrote {MAX_STRAYS} lines that are no messages");
        None
    }
}

/// A line as a message; none if nobody waits for it.
fn parse(line: &[u8]) -> Option<ServerJsonRpcMessage> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    if let Err(scan) = scan::check(line) {
        return scan.id().map(scan::too_large);
    }
    match serde_json::from_slice(line) {
        Ok(message) => Some(message),
        Err(_) => {
            tracing::debug!("a server wrote a line that is no message of MCP");
            let mut scan = Scan::default();
            scan.feed(line);
            scan.id().map(scan::malformed)
        }
    }
}

impl<R, W> Transport<RoleClient> for Stdio<R, W>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (writer, over) = (self.writer.clone(), self.over.clone());
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut writer = writer.lock().await;
            let Some(pipe) = writer.as_mut() else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let write = async {
                pipe.write_all(&line).await?;
                pipe.flush().await
            };
            let written = tokio::time::timeout(WRITE_TIMEOUT, write).await;
            let written = written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            if written.is_err() {
                // Half a message may be written, so nothing can follow it.
                *writer = None;
                over.store(true, Ordering::Relaxed);
            }
            written
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let message = self.next().await;
        if message.is_none() {
            self.over.store(true, Ordering::Relaxed);
        }
        message
    }

    async fn close(&mut self) -> io::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        self.writer.lock().await.take();
        Ok(())
    }
}

enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// With the `id` in it, if there is one.
    TooLarge(Option<rmcp::model::RequestId>),
    /// The server closed its stdout, or never ends a line.
    End,
}

/// Reads lines of bounded size. What is read of a line is kept here and not in
/// the future, because whoever waits for a line may be called away.
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// The line has outgrown [`MAX_MESSAGE`]: its scan and its size so far.
    large: Option<(Scan, u64)>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    async fn next(&mut self) -> Line {
        loop {
            let piece = match self.reader.fill_buf().await {
                Ok([]) | Err(_) => return Line::End,
                Ok(piece) => piece,
            };
            let end = memchr::memchr(b'\n', piece);
            let part = &piece[..end.unwrap_or(piece.len())];
            let read = part.len() + usize::from(end.is_some());
            if self.large.is_none() && self.line.len() + part.len() > MAX_MESSAGE {
                let mut scan = Scan::default();
                scan.feed(&self.line);
                self.large = Some((scan, self.line.len() as u64));
                self.line = Vec::new();
            }
            match &mut self.large {
                Some((scan, size)) => {
                    scan.feed(part);
                    *size += part.len() as u64;
                    if *size > MAX_LINE {
                        return Line::End;
                    }
                }
                None => self.line.extend_from_slice(part),
            }
            self.reader.consume(read);
            if end.is_some() {
                return match self.large.take() {
                    Some((scan, _)) => Line::TooLarge(scan.id()),
                    None => Line::Whole(std::mem::take(&mut self.line)),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{JsonRpcMessage, RequestId};

    use super::*;

    async fn received(text: Vec<u8>) -> Vec<ServerJsonRpcMessage> {
        let over = Arc::new(AtomicBool::new(false));
        let (_exit, exited) = tokio::sync::watch::channel(None);
        let mut stdio = Stdio::of(&*text, tokio::io::sink(), exited, Arc::clone(&over));
        let mut messages = Vec::new();
        while let Some(message) = stdio.receive().await {
            messages.push(message);
        }
        assert!(over.load(Ordering::Relaxed));
        messages
    }

    fn error_of(message: &ServerJsonRpcMessage) -> (&rmcp::ErrorData, &RequestId) {
        match message {
            JsonRpcMessage::Error(error) => (&error.error, error.id.as_ref().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn greetings_and_blank_lines_are_passed_over() {
        let text = "Listening\n\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\r\n{\"half";
        assert!(matches!(*received(text.into()).await, [JsonRpcMessage::Response(_)]));
    }

    #[tokio::test]
    async fn a_line_that_is_too_large_answers_its_call_and_the_next_one_is_read() {
        let large = "x".repeat(MAX_MESSAGE + 1);
        let text = format!(
            "{{\"result\":\"{large}\",\"id\":3}}\n{{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{{}}}}\n"
        );
        let messages = received(text.into()).await;
        assert_eq!(messages.len(), 2);
        let (error, id) = error_of(&messages[0]);
        assert!(scan::is_too_large(error));
        assert_eq!(id, &RequestId::Number(3));
    }

    #[tokio::test]
    async fn json_that_is_no_message_answers_its_call() {
        let messages = received(b"{\"id\":5,\"answer\":true}\n".to_vec()).await;
        let (error, id) = error_of(&messages[0]);
        assert!(scan::is_malformed(error));
        assert_eq!(id, &RequestId::Number(5));
    }

    #[tokio::test]
    async fn a_server_that_speaks_something_else_is_hung_up_on() {
        let chatter = "hello\n".repeat(2 * MAX_STRAYS);
        let text = format!("{chatter}{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}\n");
        assert!(received(text.into()).await.is_empty());
    }
}
