//! `reenact inspect`: what is in a sealed file.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::context::Context;
use super::render::table::pairs;
use super::render::{style, text};
use super::target::{Source, read_file, registered};
use super::{Failure, Global, say, say_json};
use crate::registry::Target;
use crate::revision::{Limits, Manifest, Revision, SomeLimits};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A sealed file, or a stored revision: AGENT (its published one) or AGENT@DIGEST
    #[arg(value_name = "FILE|AGENT")]
    target: String,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let revision = match Source::of(&args.target) {
        Source::File(path) => Arc::new(read_file(&path)?),
        Source::Folder(dir) => {
            return Err(Failure::new(format!("`{}` is a folder", dir.display()))
                .with_hint("`reenact build` seals it into a file that can be inspected"));
        }
        Source::Registered(text) => {
            let context = Context::open(global)?;
            let row = context.registry.resolve(&Target::from(text.as_str()))?;
            registered(&context, &row)?
        }
    };
    if args.json {
        say_json(&json!({
            "revision": revision.digest,
            "bytes": revision.bytes.len(),
            "manifest": revision.manifest,
            "imports": revision.imports,
            "exports": revision.exports,
        }))?;
    } else {
        say(describe(&revision)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(revision: &Revision) -> Result<String, Failure> {
    let Manifest { name, version, description, authors, license, tools, output, .. } =
        &revision.manifest;
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text::safe(&text) };
    let tools: Vec<String> = tools.iter().map(ToString::to_string).collect();
    let limits = Limits::effective(&revision.manifest.limits, &SomeLimits::default());
    let limits = limits.rows().into_iter().map(|(info, value)| {
        let set = if value == info.default { "" } else { "  (set by the manifest)" };
        format!("{} = {}{set}", info.name, text::count(value))
    });
    let mut rows = vec![
        ("revision", revision.digest.to_string()),
        ("size", format!("{} bytes", text::count(revision.bytes.len() as u64))),
        ("agent", name.to_string()),
        ("version", or_none(version.clone().unwrap_or_default())),
        ("description", or_none(description.clone())),
        ("authors", or_none(authors.join(", "))),
        ("licence", or_none(license.clone().unwrap_or_default())),
        ("tools", or_none(tools.join("\n"))),
        ("input schema", text::safe(&serde_json::to_string_pretty(&revision.manifest.input)?)),
        ("output", serde_json::to_string(&output.kind)?.replace('"', "")),
    ];
    if let Some(schema) = &output.schema {
        rows.push(("output schema", text::safe(&serde_json::to_string_pretty(schema)?)));
    }
    rows.extend([
        ("config", text::safe(&serde_json::to_string_pretty(&revision.manifest.config)?)),
        ("limits", limits.collect::<Vec<_>>().join("\n")),
        ("imports", or_none(revision.imports.join("\n"))),
        ("exports", or_none(revision.exports.join("\n"))),
    ]);
    let title = style::strong(format!("{name} {}", revision.digest.short()));
    Ok(format!("{title}\n{}", pairs(rows)))
}
