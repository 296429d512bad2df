//! The templates: folders of `templates/` in the repository, carried in the program.
//!
//! Guest libraries and the world are the repository's own files, not copies of them.

use std::borrow::Cow;

use crate::revision::AgentName;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Template {
    /// No code: a goal, a model and tools in `agent.toml`
    Prompt,
    /// Rust, built with cargo
    Rust,
    /// Python, built with componentize-py
    Python,
    /// JavaScript, built with componentize-qjs
    Javascript,
}

/// A file of a new agent's folder.
pub struct TemplateFile {
    /// Where it is in the folder, with `/` between names.
    pub path: &'static str,
    bytes: &'static [u8],
}

/// The agent's name in the templates' `agent.toml`.
const PLACEHOLDER: &str = "name = \"my-agent\"";

const fn file(path: &'static str, bytes: &'static [u8]) -> TemplateFile {
    TemplateFile { path, bytes }
}

macro_rules! of_template {
    ($folder:literal, $path:literal) => {
        file($path, include_bytes!(concat!("../../../templates/", $folder, "/", $path)))
    };
}

/// A file of a guest library, which lies in the agent's folder at a place of its own.
macro_rules! of_library {
    ($path:literal, $from:literal) => {
        file($path, include_bytes!(concat!("../../../guest-libraries/", $from)))
    };
}

const WORLD: &[u8] = include_bytes!("../../../wit/agent.wit");

const PROMPT: &[TemplateFile] =
    &[of_template!("prompt", "agent.toml"), of_template!("prompt", "prompt.wasm")];

const RUST: &[TemplateFile] = &[
    of_template!("rust", "agent.toml"),
    of_template!("rust", "src/lib.rs"),
    of_template!("rust", "Cargo.toml"),
    of_template!("rust", "Cargo.lock"),
    of_template!("rust", "rust-toolchain.toml"),
    of_template!("rust", ".gitignore"),
    of_library!("reenact-agent/Cargo.toml", "rust/Cargo.toml"),
    of_library!("reenact-agent/src/lib.rs", "rust/src/lib.rs"),
    file("reenact-agent/wit/agent.wit", WORLD),
];

const PYTHON: &[TemplateFile] = &[
    of_template!("python", "agent.toml"),
    of_template!("python", "agent.py"),
    of_template!("python", ".gitignore"),
    of_library!("requirements.txt", "python/requirements.txt"),
    of_library!("build.sh", "python/build.sh"),
    of_library!("reenact.py", "python/reenact.py"),
    file("wit/agent.wit", WORLD),
];

const JAVASCRIPT: &[TemplateFile] = &[
    of_template!("javascript", "agent.toml"),
    of_template!("javascript", "agent.js"),
    of_template!("javascript", ".gitignore"),
    of_library!("package.json", "javascript/package.json"),
    of_library!("package-lock.json", "javascript/package-lock.json"),
    of_library!("build.sh", "javascript/build.sh"),
    of_library!("reenact.js", "javascript/reenact.js"),
    of_library!("javascript.wit", "javascript/javascript.wit"),
    file("wit/agent.wit", WORLD),
];

impl Template {
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Javascript => "javascript",
        }
    }

    pub fn files(self) -> &'static [TemplateFile] {
        match self {
            Self::Prompt => PROMPT,
            Self::Rust => RUST,
            Self::Python => PYTHON,
            Self::Javascript => JAVASCRIPT,
        }
    }

    /// What has to be there to build it.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Prompt => "There is nothing to compile: `agent.toml` is the agent.",
            Self::Rust => "The agent is in src/lib.rs. Building needs rustup's stable toolchain.",
            Self::Python => "The agent is in agent.py. Building needs Python 3.10 or later.",
            Self::Javascript => "The agent is in agent.js. Building needs Node.js with npm.",
        }
    }

    /// The providers whose tools it asks for.
    pub fn providers(self) -> &'static [&'static str] {
        match self {
            Self::Prompt => &["model", "files"],
            _ => &["files"],
        }
    }

    /// An input that fits its schema.
    pub fn input(self) -> &'static str {
        r#"{"topic":"tools"}"#
    }
}

impl TemplateFile {
    /// The file for an agent of that name.
    pub fn content(&self, name: &AgentName) -> Cow<'static, [u8]> {
        match std::str::from_utf8(self.bytes) {
            Ok(text) if self.path == crate::build::AGENT_TOML => {
                Cow::Owned(text.replace(PLACEHOLDER, &format!("name = \"{name}\"")).into_bytes())
            }
            _ => Cow::Borrowed(self.bytes),
        }
    }
}
