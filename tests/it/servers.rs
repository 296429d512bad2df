//! Sets up the programs that the tests run against: real MCP servers from the
//! registries, pinned by the files in `tests/servers/`, and odd ones of our own.
//!
//! They are installed below `target/` by whoever needs them first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::root;

/// The files that say what is installed.
const PINS: [&str; 4] =
    ["package.json", "package-lock.json", "requirements.txt", "schemathesis.txt"];

fn pins() -> PathBuf {
    root().join("tests/servers")
}

/// Where everything is installed; done once for all tests of all processes.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("servers");
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.join(".lock")).unwrap();
        lock.lock().unwrap();
        let wanted = PINS.map(|pin| fs::read_to_string(pins().join(pin)).unwrap()).concat();
        let done = folder.join("installed");
        if fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
            install(&folder);
            fs::write(&done, wanted).unwrap();
        }
        folder
    })
}

fn install(folder: &Path) {
    for pin in PINS {
        fs::copy(pins().join(pin), folder.join(pin)).unwrap();
    }
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    done("npm", &npm, folder, "Node.js 20 or newer with npm (`apt-get install nodejs npm`)");
    let python = "Python 3.10 or newer with venv (`apt-get install python3 python3-venv`)";
    // What they need differs in versions, so each has an environment of its own.
    for (environment, pins) in [("python", "requirements.txt"), ("checks", "schemathesis.txt")] {
        done("python3", &["-m", "venv", "--clear", environment], folder, python);
        let pip = folder.join(environment).join("bin/pip");
        let requirements = ["install", "--disable-pip-version-check", "-q", "-r", pins];
        done(pip.to_str().unwrap(), &requirements, folder, python);
    }
}

fn done(program: &str, arguments: &[&str], folder: &Path, needed: &str) {
    let command = Command::new(program).args(arguments).current_dir(folder).output();
    let output = command.unwrap_or_else(|cause| {
        panic!("cannot start `{program}` ({cause}): these tests need {needed}")
    });
    assert!(
        output.status.success(),
        "`{program} {}` failed; these tests need {needed}, and the package registries:\n{}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// The program of an official server, for `node`.
pub fn node_server(name: &str) -> String {
    let path = format!("node_modules/@modelcontextprotocol/server-{name}/dist/index.js");
    installed().join(path).to_str().unwrap().to_owned()
}

/// The official server that tells the time.
pub fn time_server() -> String {
    installed().join("python/bin/mcp-server-time").to_str().unwrap().to_owned()
}

/// The program that holds a server to its OpenAPI document.
pub fn schemathesis() -> String {
    installed().join("checks/bin/schemathesis").to_str().unwrap().to_owned()
}

/// The interpreter for servers of our own.
pub fn python() -> String {
    installed().join("python/bin/python3").to_str().unwrap().to_owned()
}

/// A server of our own that misbehaves on request.
pub fn odd_server() -> String {
    pins().join("odd.py").to_str().unwrap().to_owned()
}
