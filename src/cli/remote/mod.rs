//! The verbs that can have a server do their work: which server, and what each of them
//! asks it for. No home folder is opened here.

mod agents;
mod approve;
mod desk;
mod publish;
mod replay;
mod report;
mod run;
mod runs;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use super::render::style;
use super::render::text;
use super::{Failure, Global, Verb, note};
use crate::client::{Address, Client, Key, Notice};

/// The server that is to do what `verb` says, if one is named.
///
/// A flag is meant for this command; the environment is meant for whatever it fits.
pub fn server(global: &Global, verb: &Verb) -> Result<Option<Client>, Failure> {
    let reason = stays_here(verb);
    let address = match (&global.server, reason) {
        (Some(_), Some(reason)) => {
            let failure = Failure::new(format!("`reenact {}` takes no `--server`", verb.name()));
            return Err(failure.with_hint(reason));
        }
        (Some(_), None) if global.home.is_some() || global.config.is_some() => {
            let failure = Failure::new("`--server` goes with neither `--home` nor `--config`");
            return Err(failure.with_hint("a server has a home and a configuration of its own"));
        }
        (Some(address), None) => address.clone(),
        (None, None) if global.home.is_none() => match variable("REENACT_SERVER") {
            Some(address) => address,
            None => return no_server(global),
        },
        (None, _) => return no_server(global),
    };
    let address = Address::parse(&address)?;
    let key = global.key.clone().or_else(|| variable("REENACT_KEY"));
    let key = key.map(|key| read_key(&key)).transpose()?;
    if key.is_some() && address.is_open() {
        note(format!(
            "{}: the key goes to {address} unencrypted; `https://` would hide it on its way",
            style::warn("note")
        ));
    }
    Ok(Some(Client::new(address, key, again)?))
}

/// A key that no server would see was meant for one.
fn no_server(global: &Global) -> Result<Option<Client>, Failure> {
    match &global.key {
        None => Ok(None),
        Some(_) => Err(Failure::new("`--key` is given, and no server")
            .with_hint("`--server URL` names the server that it is for")),
    }
}

/// Why a verb has nothing to do with a server, if it has not.
fn stays_here(verb: &Verb) -> Option<&'static str> {
    Some(match verb {
        Verb::Init(_) | Verb::Build(_) => {
            "it works on a folder of this machine; `reenact publish DIR --server URL` builds and uploads"
        }
        Verb::Inspect(_) => {
            "it looks at files and at the home of this machine; `reenact revisions AGENT --server URL` \
             lists what a server has"
        }
        Verb::Resume(_) => "a server goes on with its runs by itself",
        Verb::Fork(_) => "runs of a server are forked by its API: `POST /v0.1/runs/RUN/fork`",
        Verb::Test(_) => {
            "it holds a revision of this machine against exported runs, with no server at all"
        }
        Verb::Serve(_) => "it is the server",
        Verb::Keys(_) => "keys are made where the server is, on its home: `--home DIR`",
        Verb::Webhooks(_) => {
            "webhooks are looked after where the server is, on its home: `--home DIR`"
        }
        Verb::Tools(_) => "a server's tools are what the configuration there grants",
        // A file proves itself, with or without a server.
        Verb::Replay(args)
            if args.target.as_deref().is_some_and(|text| Path::new(text).is_file()) =>
        {
            "an exported file is replayed on this machine and needs no server"
        }
        Verb::Publish(_)
        | Verb::Agents(_)
        | Verb::Revisions(_)
        | Verb::Run(_)
        | Verb::Approve(_)
        | Verb::Replay(_)
        | Verb::Export(_)
        | Verb::Runs(_)
        | Verb::Show(_)
        | Verb::Cancel(_) => return None,
    })
}

/// Does what the command line says, on the server.
pub async fn run(verb: Verb, client: &Client, global: &Global) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Publish(args) => publish::run(args, client).await,
        Verb::Agents(args) => agents::list(args, client).await,
        Verb::Revisions(args) => agents::revisions(args, client).await,
        Verb::Run(args) => run::run(args, client, global).await,
        Verb::Approve(args) => approve::run(args, client).await,
        Verb::Replay(args) => replay::run(args, client).await,
        Verb::Export(args) => runs::export(args, client, global).await,
        Verb::Runs(args) => runs::list(args, client).await,
        Verb::Show(args) => runs::show(args, client, global).await,
        Verb::Cancel(args) => runs::cancel(args, client, global).await,
        verb => Err(Failure::new(format!("`reenact {}` takes no `--server`", verb.name()))),
    }
}

/// A variable that is set but empty counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A key from the command line itself, or from a file.
fn read_key(argument: &str) -> Result<Key, Failure> {
    /// Larger than any key; keeps a wrong file from filling the memory.
    const MAX: u64 = 64 << 10;
    let Some(path) = argument.strip_prefix('@') else { return Ok(Key::new(argument)?) };
    let read = || {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let cannot = || format!("cannot read the key from `{path}`");
    let text = read().map_err(|error| Failure::from(error).context(cannot()))?;
    Key::new(&text).map_err(|error| Failure::from(error).context(cannot()))
}

/// Says why a call takes longer.
fn again(notice: Notice) {
    let Notice::Again { cause, wait } = notice;
    let wait = text::duration(wait.as_micros() as u64);
    note(format!("{}: {}: trying again in {wait}", style::warn("note"), text::line(&cause, 300)));
}

/// Refuses grants: who may call what is not for clients to say.
fn refuse_grants(grants: &[String]) -> Result<(), Failure> {
    match grants {
        [] => Ok(()),
        _ => Err(Failure::new("`--grant` goes with no server: what its operator grants counts")
            .with_hint(
                "its configuration and `reenact serve --grant` grant tools to all its runs",
            )),
    }
}
