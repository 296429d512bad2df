//! The provider `files`: search and read one folder that the operator grants.
//!
//! Nothing is written, and nothing outside of the folder is opened: see
//! [`folder`]. File work blocks, so it happens on tokio's threads for that, a
//! few calls at a time, and ends soon after its caller has gone.

mod folder;
mod read;
mod search;
#[cfg(all(test, unix))]
mod tests;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::folder::Folder;
use super::{
    CallContext, Grant, Kind, OpenError, Opened, Opening, Provider, Success, ToolError,
    ToolErrorCode, ToolSpec,
};

pub const KIND: Kind =
    Kind { name: "files", flag_value: "DIR", keys: &["root", "url"], many: false, open };

/// Calls that work at the same time; further ones wait. Each holds a thread of
/// the pool that the whole host shares, and up to a megabyte or two.
const CALLS_AT_ONCE: usize = 16;

/// The table `[grants.files]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The folder.
    root: String,
    /// Prefix under which its files are named as sources.
    url: Option<String>,
}

fn open<'a>(grant: &'a Grant, _: &'a Opening<'a>) -> BoxFuture<'a, Opened> {
    let provider = Files::open(grant).map(|files| files as Arc<dyn Provider>);
    ready(provider.map(|provider| vec![(KIND.name.to_owned(), provider)])).boxed()
}

impl Files {
    fn open(grant: &Grant) -> Result<Arc<Self>, OpenError> {
        let folder = match grant {
            Grant::Flag(root) => Folder::open(Path::new(root), None)?,
            Grant::Table { table, file } => {
                let table: Table = table.clone().try_into().map_err(Box::new)?;
                let base = file.parent().unwrap_or(Path::new(""));
                Folder::open(&base.join(table.root), table.url)?
            }
        };
        Ok(Arc::new(Files {
            folder: Arc::new(folder),
            places: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        }))
    }
}

struct Files {
    folder: Arc<Folder>,
    places: Arc<Semaphore>,
}

impl Provider for Files {
    fn tools(&self) -> Vec<ToolSpec> {
        vec![list_spec(), read_spec(), search_spec()]
    }

    fn call(
        &self,
        tool: &str,
        arguments: Value,
        _: CallContext,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        match tool {
            "files.list" => self.work(arguments, read::list),
            "files.read" => self.work(arguments, read::read),
            "files.search" => self.work(arguments, search::search),
            other => {
                let message = format!("`files` has no tool `{other}`");
                let failure = ToolError { code: ToolErrorCode::UnknownTool, message };
                ready(Err(failure)).boxed()
            }
        }
    }
}

impl Files {
    /// Does blocking work on another thread, until it ends or nobody waits for it.
    fn work<A: DeserializeOwned + Send + 'static>(
        &self,
        arguments: Value,
        work: fn(&Folder, A, &Cancel) -> Result<Success, ToolError>,
    ) -> BoxFuture<'static, Result<Success, ToolError>> {
        let (folder, places) = (self.folder.clone(), self.places.clone());
        let task = async move {
            let arguments =
                serde_json::from_value(arguments).map_err(|e| invalid(e.to_string()))?;
            let place = places.acquire_owned().await.expect("nobody closes the semaphore");
            let cancel = Cancel::default();
            let _gone = CancelOnDrop(cancel.clone());
            let task = tokio::task::spawn_blocking(move || {
                let _place = place;
                work(&folder, arguments, &cancel)
            });
            match task.await {
                Ok(outcome) => outcome,
                Err(cause) => match cause.try_into_panic() {
                    // It is the caller's to say that a tool broke.
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(failed("the host is stopping".to_owned())),
                },
            }
        };
        task.boxed()
    }
}

/// Whether the caller has gone. Asked between files and between folders.
#[derive(Clone, Default)]
struct Cancel(Arc<AtomicBool>);

impl Cancel {
    fn check(&self) -> Result<(), ToolError> {
        if self.0.load(Ordering::Relaxed) {
            // Nobody reads this.
            return Err(failed("the call was abandoned".to_owned()));
        }
        Ok(())
    }
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

fn failed(message: String) -> ToolError {
    ToolError { code: ToolErrorCode::Failed, message }
}

fn invalid(message: String) -> ToolError {
    ToolError { code: ToolErrorCode::InvalidArguments, message }
}

fn spec(name: &str, description: &str, required: &[&str], properties: Value) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }),
        read_only: true,
        idempotent: true,
    }
}

fn path_property(what: &str) -> Value {
    json!({
        "type": "string",
        "maxLength": 4096,
        "description": format!("{what}, relative to the granted folder, with `/` between names, \
            such as `guides/start.md`"),
    })
}

fn list_spec() -> ToolSpec {
    spec(
        "files.list",
        "Lists one folder, sorted by name: the name and type of each entry, and the size in bytes \
         of each file. `truncated` is true if the folder has more than 1000 entries.",
        &[],
        json!({ "path": path_property("The folder to list; without it the granted folder itself") }),
    )
}

fn read_spec() -> ToolSpec {
    spec(
        "files.read",
        "Reads a text file, or a part of it. If `truncated` is true there is more: call again with \
         `offset` set to the answer's `next_offset`. `size` is the size of the whole file in bytes.",
        &["path"],
        json!({
            "path": path_property("The file to read"),
            "offset": {
                "type": "integer",
                "minimum": 0,
                "maximum": 1u64 << 53,
                "description": "Where to start, in bytes; 0 if left out",
            },
            "max_bytes": {
                "type": "integer",
                // The longest character has 4 bytes, so every call gets ahead.
                "minimum": 4,
                "maximum": read::MAX_READ,
                "description": format!("How much to read at most, in bytes; {} if left out", read::DEFAULT_READ),
            },
        }),
    )
}

fn search_spec() -> ToolSpec {
    spec(
        "files.search",
        "Finds lines of text files that contain the query, upper and lower case alike. If no line \
         contains the whole query, finds lines that contain all of its words. Answers path, line \
         number and text of each match, sorted by path, at most 5 matches for each file; \
         `truncated` is true if there is more. Hidden files and build output are left out.",
        &["query"],
        json!({
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": 1000,
                "description": "The words to look for; not a pattern",
            },
            "path": path_property("The folder to search, with all folders in it; without it everything"),
            "max_results": {
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "description": format!("How many matches to answer at most; {} if left out", search::DEFAULT_RESULTS),
            },
        }),
    )
}
