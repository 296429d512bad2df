//! The granted folder: the only way from a guest's path to a file.
//!
//! Every open goes through a [`Dir`], which the operating system (or cap-std in
//! its place) keeps inside of the folder: links that stay inside are followed,
//! links that lead out are refused, also if somebody swaps them in meanwhile.
//!
//! A host's absolute paths are shown to no guest and no reader: errors repeat
//! the path as the guest gave it, and sources are named relative to the folder.

use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, OpenOptions, ReadDir};

use super::super::{OpenError, Source, ToolError};
use super::{failed, invalid};

/// How far into a file its title is looked for.
const TITLE_BYTES: u64 = 4 << 10;

pub struct Folder {
    root: Dir,
    /// Ends in `/`.
    url: Option<String>,
}

impl Folder {
    /// Opens the folder for good: if its path leads elsewhere later, this does not.
    pub fn open(path: &Path, url: Option<String>) -> Result<Self, OpenError> {
        if let Some(url) = &url
            && !((url.starts_with("https://") || url.starts_with("http://")) && url.ends_with('/'))
        {
            let must = "start with `https://` or `http://` and end with `/`";
            return Err(OpenError::Value { key: "url", value: url.clone(), must });
        }
        let root = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(|cause| OpenError::Path { path: path.to_owned(), cause })?;
        Ok(Self { root, url })
    }

    /// What is in a folder, in no particular order.
    pub fn entries(&self, path: &RelPath) -> io::Result<ReadDir> {
        self.root.read_dir(path.for_os())
    }

    /// Metadata of a file, or of a link itself.
    pub fn link_metadata(&self, path: &RelPath) -> io::Result<Metadata> {
        self.root.symlink_metadata(path.for_os())
    }

    /// Opens a regular file. Never waits: opening a FIFO would wait for a
    /// writer for ever, and opening a device can do anything.
    pub fn open_file(&self, path: &RelPath) -> io::Result<(File, u64)> {
        regular(&self.root.metadata(path.for_os())?)?;
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        cap_std::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let file = self.root.open_with(path.for_os(), &options)?;
        // Again, because it may be another file by now.
        let metadata = file.metadata()?;
        regular(&metadata)?;
        Ok((file, metadata.len()))
    }

    /// A file as a source. `start` is how the file begins.
    pub fn file_source(&self, path: &RelPath, start: &[u8]) -> Source {
        let title = path.0.ends_with(".md").then(|| heading(start)).flatten();
        Source { url: self.url_of(&path.0), title: title.unwrap_or_else(|| path.0.clone()) }
    }

    pub fn folder_source(&self, path: &RelPath) -> Source {
        let (below, title) = match path.0.as_str() {
            "" if self.url.is_some() => (String::new(), "./".to_owned()),
            "" => ("./".to_owned(), "./".to_owned()),
            path => (format!("{path}/"), format!("{path}/")),
        };
        Source { url: self.url_of(&below), title }
    }

    fn url_of(&self, path: &str) -> String {
        let mut url = self.url.clone().unwrap_or_else(|| "files:".to_owned());
        for byte in path.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    url.push(byte.into());
                }
                _ => write!(url, "%{byte:02X}").expect("a string takes everything"),
            }
        }
        url
    }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "it is a folder" } else { "it is not a regular file" };
    Err(io::Error::other(what))
}

/// The start of `file`, whose position is lost.
pub fn start_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(TITLE_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

/// The first line that is not blank, if it is a Markdown heading.
fn heading(start: &[u8]) -> Option<String> {
    let start = &start[..start.len().min(TITLE_BYTES as usize)];
    let text = String::from_utf8_lossy(start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start));
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    let title = line.strip_prefix("# ")?.trim();
    (!title.is_empty()).then(|| title.to_owned())
}

/// A path below the granted folder: names with `/` between them, empty for the
/// folder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelPath(String);

impl RelPath {
    /// Takes what a guest wrote. The file system would refuse to leave the
    /// folder too; refusing here says why, and gives every file one name.
    pub fn parse(text: &str) -> Result<Self, ToolError> {
        if text.contains('\0') {
            return Err(invalid("a path cannot contain the character U+0000".to_owned()));
        }
        let mut path = String::new();
        for part in Path::new(text).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) if is_hidden(name.as_encoded_bytes()) => {
                    let why = "is hidden: names that begin with a dot are not granted";
                    return Err(invalid(format!("`{text}` {why}")));
                }
                Component::Normal(name) => {
                    path.push_str(if path.is_empty() { "" } else { "/" });
                    path.push_str(name.to_str().expect("part of a string"));
                }
                Component::ParentDir => {
                    let why = "contains `..`; name it from the granted folder down";
                    return Err(invalid(format!("`{text}` {why}")));
                }
                Component::RootDir | Component::Prefix(_) => {
                    let why = "is absolute; paths are relative to the granted folder";
                    return Err(invalid(format!("`{text}` {why}")));
                }
            }
        }
        Ok(Self(path))
    }

    pub fn join(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        Self(format!("{}/{name}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn for_os(&self) -> &Path {
        Path::new(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// Whether a name is hidden. Such files hold keys and histories more often than
/// anything that an agent should read; who means them can grant them by name.
pub fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".")
}

/// An error about `path` as the guest gave it.
pub fn cannot(verb: &str, path: &str, cause: &io::Error) -> ToolError {
    let path = if path.is_empty() { "." } else { path };
    failed(match cause.kind() {
        io::ErrorKind::NotFound => format!("cannot {verb} `{path}`: it does not exist"),
        // cap-std's word for a link that leads out has no number.
        io::ErrorKind::PermissionDenied if cause.raw_os_error().is_none() => {
            format!("cannot {verb} `{path}`: it leads out of the granted folder")
        }
        _ => format!("cannot {verb} `{path}`: {cause}"),
    })
}
