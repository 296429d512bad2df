//! `reenact init`: a new agent's folder, from a template in this program.

mod template;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use self::template::Template;
use super::render::style;
use super::{Failure, Global, note, say, say_json};
use crate::revision::AgentName;
use crate::tools;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  reenact init my-agent                       an agent without code: a prompt in `agent.toml`
  reenact init agents/counter -t python       an agent in Python, in the folder agents/counter")]
pub struct Args {
    /// The folder to make; its last part becomes the agent's name
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// What the agent is made of
    #[arg(short, long, value_name = "TEMPLATE", default_value = "prompt")]
    template: Template,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let name = name_of(&args.folder)?;
    must_be_free(&args.folder)?;
    write(&args.folder, args.template, &name)?;
    let files: Vec<&str> = args.template.files().iter().map(|file| file.path).collect();
    let next = next_commands(&args, global);
    if args.json {
        say_json(&json!({
            "agent": name,
            "template": args.template.name(),
            "folder": args.folder,
            "files": files,
            "next": next,
        }))?;
    } else {
        note(format!("{} {}", style::label("wrote"), files.join(", ")));
        say(args.folder.display());
        note(format!("\n{}\nNext:", args.template.needs()));
        for command in next {
            note(format!("  {}", style::strong(command)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn name_of(folder: &Path) -> Result<AgentName, Failure> {
    const HINT: &str = "give the path of a folder to make, such as `my-agent`";
    let Some(name) = folder.file_name() else {
        let shown = folder.display();
        let message = format!("`{shown}` does not end with the name of an agent");
        return Err(Failure::new(message).with_hint(HINT));
    };
    let name: Result<AgentName, _> = name.to_string_lossy().parse();
    name.map_err(|error| Failure::from(error).with_hint(HINT))
}

/// Nothing that is there already is touched.
fn must_be_free(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    let taken = |what: &str| {
        let hint = "give another name, or remove it first";
        Err(Failure::new(format!("`{shown}` {what}")).with_hint(hint))
    };
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::from(error).context(format!("cannot look at `{shown}`"))),
        Ok(found) if found.is_dir() => {
            let cannot = |error| Failure::from(error).context(format!("cannot read `{shown}`"));
            match fs::read_dir(folder).map_err(cannot)?.next() {
                None => Ok(()),
                Some(_) => taken("is a folder that is not empty"),
            }
        }
        Ok(_) => taken("is there already, and is not a folder"),
    }
}

/// Writes all of the folder beside its place and moves it there, so that it is
/// there whole or not at all.
fn write(folder: &Path, template: Template, name: &AgentName) -> Result<(), Failure> {
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let write = || {
        fs::create_dir_all(parent)?;
        let draft = temporary_in(parent)?;
        for file in template.files() {
            let path = draft.path().join(file.path);
            fs::create_dir_all(path.parent().unwrap_or(draft.path()))?;
            fs::write(&path, file.content(name))?;
        }
        // An empty folder gives way; one that has been filled since does not.
        if cfg!(windows) && folder.is_dir() {
            fs::remove_dir(folder)?;
        }
        fs::rename(draft.path(), folder)?;
        // It is not there any more to be removed.
        let _ = draft.keep();
        Ok(())
    };
    write().map_err(|error: io::Error| {
        Failure::from(error).context(format!("cannot make the folder `{}`", folder.display()))
    })
}

fn temporary_in(parent: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".reenact-init-");
    // It becomes a folder like any other: the usual permissions, less the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(parent)
}

/// What to do with the folder, from where the user is now.
fn next_commands(args: &Args, global: &Global) -> Vec<String> {
    let folder = path_argument(&args.folder);
    let mut run = format!("run {folder} --input '{}'", args.template.input());
    for provider in args.template.providers() {
        if let Some(kind) = tools::kind(provider) {
            let value = if kind.flag_value == "DIR" { &folder } else { kind.flag_value };
            run += &format!(" --grant {}={value}", kind.name);
        }
    }
    vec![global.again(&format!("build {folder}")), global.again(&run)]
}

/// The path as an argument that neither a shell nor `reenact run` takes for
/// something else.
fn path_argument(folder: &Path) -> String {
    let text = folder.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%\\".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_path_is_the_name() {
        for (path, name) in [("a", "a"), ("x/y-2", "y-2"), ("../b/", "b"), ("/tmp/./c", "c")] {
            assert_eq!(name_of(Path::new(path)).ok().unwrap().as_str(), name);
        }
        for path in ["", ".", "..", "/", "a/..", "A", "my agent", "a_b", "1a", "ä"] {
            assert!(name_of(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(path_argument(Path::new("a/b-c")), "a/b-c");
        assert_eq!(path_argument(Path::new("it's here/a")), r"'it'\''s here/a'");
    }
}
