//! `reenact serve`: a machine as a run service.

use std::net::SocketAddr;
use std::process::ExitCode;

use anstream::ColorChoice;
use tokio::net::TcpListener;

use super::context::Context;
use super::render::style;
use super::{Failure, Global, log_filter, note, say};
use crate::config::ServerConfig;
use crate::server::{may_listen, openapi, serve};
use crate::service::{Places, Service, ServiceLimits};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without keys only this machine is served; `reenact keys create` makes the first key, and from then
on every request needs one. SIGTERM or Ctrl-C lets go of the runs under way, which go on when a
server is started on the same home again; so they do after the process was killed.

The table [server] of the configuration holds limits. `GET /openapi.json` describes the API.

Examples:
  reenact serve
  reenact serve --listen 0.0.0.0:7411 --log json
  reenact serve --openapi > openapi.json")]
pub struct Args {
    /// Where to listen; port 0 takes any free one [default: `server.listen`, else 127.0.0.1:7411]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The form of the log, which goes to stderr; REENACT_LOG says how much
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log: Log,
    /// Grant tools to all runs, as in `reenact run`
    #[arg(long = "grant", value_name = "NAME[=VALUE]")]
    grants: Vec<String>,
    /// Print the description of the API (OpenAPI 3.1) and leave
    #[arg(long)]
    openapi: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    Text,
    /// One JSON object a line
    Json,
}

impl Log {
    /// Sends the log to stderr from here on.
    pub fn listen(self) {
        // Colours that nobody sees would be cut out again, and each piece written by itself.
        let has_colours = anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
        let log = tracing_subscriber::fmt()
            .with_env_filter(log_filter("reenact=info"))
            .with_ansi(has_colours)
            .with_writer(anstream::stderr);
        match self {
            Self::Text => log.with_target(false).init(),
            Self::Json => log.json().flatten_event(true).init(),
        }
    }
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    if args.openapi {
        say(openapi().to_pretty_json()?);
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::open(global)?;
    let config = context.config(global, &args.grants)?;
    let address = args.listen.unwrap_or(config.server.listen);
    let has_keys = context.storage.has_keys()?;
    if !may_listen(&address, has_keys) {
        return Err(Failure::new(format!(
            "there are no keys, so `{address}` would serve everybody who can reach it"
        ))
        .with_hint(format!(
            "`{}` makes a key; `--listen 127.0.0.1:{}` serves this machine only",
            global.again("keys create NAME"),
            address.port()
        )));
    }
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::from(error)
            .context(format!("cannot listen on `{address}`"))
            .with_hint("`--listen` takes another address or port")
    })?;
    let Context { home, storage, registry } = context;
    let server = config.server.clone();
    allow_files(server.connections as u64);
    let service = Service::open(&home, storage, registry, config, limits(&server)).await?;
    let address = listener.local_addr()?;
    let stop = told_to_stop()?;
    say(format!("{} on http://{address}", style::good("listening")));
    if !has_keys {
        note(format!(
            "{}: there are no keys, so only this machine is served, and all of it",
            style::warn("note")
        ));
    }
    serve(listener, service, server, stop).await?;
    note(style::good("stopped"));
    Ok(ExitCode::SUCCESS)
}

/// Lets the process have as many files open as its connections need, where it may.
fn allow_files(connections: u64) {
    /// For the database, the tools and the calls under way.
    const OTHERS: u64 = 2_000;
    let wanted = connections.saturating_add(OTHERS);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(allowed) if allowed < wanted => tracing::warn!(
            "the process may have {allowed} files open: too few for {connections} connections"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!("cannot raise the limit of open files: {error}"),
    }
}

fn limits(server: &ServerConfig) -> ServiceLimits {
    ServiceLimits {
        places: Places {
            loaded: server.parallel,
            per_agent: server.parallel_per_agent,
            held: server.under_way,
        },
        queue: server.queue,
        patience: server.patience(),
    }
}

/// Listens for the wish to stop, from here on; the future returns when it comes.
fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    #[cfg(unix)]
    let (mut interrupted, mut terminated) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        note(style::warn("stopping: letting go of the runs under way"));
        // Whoever is asked twice leaves at once; the runs' leases run out by themselves.
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(i32::from(super::exit::CANCELLED));
            }
        });
    })
}
