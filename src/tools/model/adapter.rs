//! The providers' APIs: what each is called, where it is, how it takes a key.

use genai::adapter::AdapterKind;
use http::HeaderName;
use http::header::AUTHORIZATION;

/// An API that models are reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapter {
    /// OpenAI's chat completions, which many others speak too.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's `streamGenerateContent`.
    Gemini,
    /// Ollama's own `/api/chat`.
    Ollama,
}

/// How an API separates the pieces of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events: an empty line ends each.
    Events,
    /// One JSON document a line.
    Lines,
}

/// How genai hands on a call of a tool that comes in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pieces {
    /// Each piece is what is new of the arguments' text.
    Added,
    /// Each piece is all of the arguments' text so far.
    SoFar,
    /// There are no pieces: a call comes whole.
    Whole,
}

impl Adapter {
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|adapter| adapter.name() == name)
    }

    /// The name in the configuration; also that of the provider that is known by it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    pub fn kind(self) -> AdapterKind {
        match self {
            Self::OpenAi => AdapterKind::OpenAI,
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
            Self::Ollama => AdapterKind::Ollama,
        }
    }

    /// Where the provider that gave the API its name serves it.
    pub fn base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://localhost:11434/",
        }
    }

    /// The usual name of that provider's key, if it needs one.
    pub fn key_name(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_API_KEY"),
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Gemini => Some("GEMINI_API_KEY"),
            Self::Ollama => None,
        }
    }

    /// The header that carries a key, and what stands before the key in it.
    pub fn key_header(self) -> (HeaderName, &'static str) {
        match self {
            Self::OpenAi | Self::Ollama => (AUTHORIZATION, "Bearer "),
            Self::Anthropic => (HeaderName::from_static("x-api-key"), ""),
            Self::Gemini => (HeaderName::from_static("x-goog-api-key"), ""),
        }
    }

    pub fn framing(self) -> Framing {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Gemini => Framing::Events,
            Self::Ollama => Framing::Lines,
        }
    }

    pub fn pieces(self) -> Pieces {
        match self {
            Self::OpenAi => Pieces::Added,
            Self::Anthropic => Pieces::SoFar,
            Self::Gemini | Self::Ollama => Pieces::Whole,
        }
    }
}
