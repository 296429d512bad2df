//! Why a call was not done.

use std::error::Error;

use crate::server::Problem;

/// Why a server did not do what it was asked, as far as a client can tell.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    #[error("`{text}` is no address of a server: {what}")]
    BadAddress { text: String, what: String },
    #[error("the key {what}")]
    BadKey { what: &'static str },
    /// It would name another route.
    #[error("`{0}` is no id")]
    BadId(String),
    /// Nothing was sent.
    #[error("cannot connect to `{server}`: {cause}")]
    Connect { server: String, cause: String },
    /// The request may have arrived.
    #[error("the connection to `{server}` broke: {cause}")]
    Broken { server: String, cause: String },
    /// The request may have arrived.
    #[error("`{server}` did not answer within {seconds} s")]
    Timeout { server: String, seconds: u64 },
    /// The server says why.
    #[error("{}: {}", .0.title, .0.detail)]
    Problem(Box<Problem>),
    /// Whatever answers there, it is no server of this version.
    #[error("`{server}` does not answer as a Reenact server does: {what}")]
    Unexpected { server: String, what: String },
    #[error("an answer of `{server}` has more than {limit} bytes")]
    TooLarge { server: String, limit: u64 },
    /// This machine cannot make connections at all.
    #[error("cannot set up connections: {0}")]
    Machine(String),
}

impl ClientError {
    /// The server's own account, if it gave one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadAddress { .. } => {
                "it looks like `http://127.0.0.1:7411`, which is where `reenact serve` listens"
                    .to_owned()
            }
            Self::BadKey { .. } => {
                "`--key @FILE` reads it from a file, which holds the key and nothing else"
                    .to_owned()
            }
            Self::Connect { .. } => {
                "is the server started (`reenact serve`), and the address right (`--server URL`)?"
                    .to_owned()
            }
            Self::Problem(problem) => return hint_of(problem),
            _ => return None,
        })
    }
}

/// What to do on a command line; the server's hints are for those who write requests.
fn hint_of(problem: &Problem) -> Option<String> {
    let hint = match problem.status {
        401 => {
            "`--key @FILE` or REENACT_KEY gives a key; `reenact keys create NAME`, where the server \
             is, makes one"
        }
        403 if problem.is("not-allowed") => {
            "`reenact keys create NAME --scope SCOPE,…`, where the server is, makes a key that may"
        }
        _ if problem.is("asks-for-more") => {
            "`--allow-new-tools` publishes it all the same, `--draft` only stores it"
        }
        _ if problem.is("nothing-published") => {
            "`reenact publish AGENT@DIGEST` publishes a revision; AGENT@DIGEST runs any"
        }
        _ => return problem.hint.clone().map(String::from),
    };
    Some(hint.to_owned())
}

/// The cause of the causes: what is above it repeats it, or names the URL again.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
