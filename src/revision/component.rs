//! What a component must be so that the host can run it as an agent, read from
//! its bytes before anything is compiled.

use wasmparser::{Parser, Payload, ValidPayload, Validator, WasmFeatures};

use super::seal::{MANIFEST_SECTION, RevisionError};

/// Bytes of a component. A Python interpreter with its library takes 18 MiB;
/// the file is read into memory whole, and compiling needs a multiple of it.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Bytes of one function's body. Compiling takes more than linear time in
/// them; the largest interpreter loops have some 200 KiB.
pub const MAX_FUNCTION_BYTES: usize = 1 << 20;

/// Functions of all modules together. Large interpreters have some 40,000;
/// each costs the compiler and the code cache some KiB, however empty it is.
pub const MAX_FUNCTIONS: usize = 200_000;

/// The interface that an agent exports. Later `0.1` versions only add to it.
pub const GUEST: &str = "reenact:agent/guest";
const AGENT_VERSION: &str = "0.1";

/// What the host gives, by package version. It is exactly what the sandbox links.
const HOST: &[(&str, &[&str])] = &[
    (
        AGENT_VERSION,
        &[
            "reenact:agent/types",
            "reenact:agent/context",
            "reenact:agent/events",
            "reenact:agent/tools",
        ],
    ),
    (
        "0.2",
        &[
            "wasi:cli/environment",
            "wasi:cli/exit",
            "wasi:cli/stdin",
            "wasi:cli/stdout",
            "wasi:cli/stderr",
            "wasi:cli/terminal-input",
            "wasi:cli/terminal-output",
            "wasi:cli/terminal-stdin",
            "wasi:cli/terminal-stdout",
            "wasi:cli/terminal-stderr",
            "wasi:clocks/monotonic-clock",
            "wasi:clocks/wall-clock",
            "wasi:filesystem/preopens",
            "wasi:filesystem/types",
            "wasi:http/outgoing-handler",
            "wasi:http/types",
            "wasi:io/error",
            "wasi:io/poll",
            "wasi:io/streams",
            "wasi:random/insecure",
            "wasi:random/insecure-seed",
            "wasi:random/random",
            "wasi:sockets/instance-network",
            "wasi:sockets/ip-name-lookup",
            "wasi:sockets/network",
            "wasi:sockets/tcp",
            "wasi:sockets/tcp-create-socket",
            "wasi:sockets/udp",
            "wasi:sockets/udp-create-socket",
        ],
    ),
];

/// What the outermost component says about itself.
#[derive(Debug, Default)]
pub struct Shape<'a> {
    /// In alphabetical order.
    pub imports: Vec<String>,
    /// In alphabetical order.
    pub exports: Vec<String>,
    pub manifests: Vec<&'a [u8]>,
}

/// Validates all of the component, and that it fits between host and run.
pub fn inspect(bytes: &[u8]) -> Result<Shape<'_>, RevisionError> {
    let shape = read(bytes)?;
    if !shape.exports.iter().any(|name| provides(name, GUEST, AGENT_VERSION)) {
        return Err(RevisionError::NoGuest { exports: shape.exports });
    }
    match shape.imports.iter().find(|name| !host_gives(name)) {
        Some(import) => Err(RevisionError::UnknownImport { import: import.clone() }),
        None => Ok(shape),
    }
}

/// Says what the bytes are, if they are not a component.
pub fn check_is_component(bytes: &[u8]) -> Result<(), RevisionError> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(RevisionError::TooLarge { bytes: bytes.len() });
    }
    if Parser::is_component(bytes) {
        Ok(())
    } else if Parser::is_core_wasm(bytes) {
        Err(RevisionError::CoreModule)
    } else if bytes.trim_ascii_start().starts_with(b"(") || bytes.starts_with(b";;") {
        Err(RevisionError::Text)
    } else {
        Err(RevisionError::NotWasm)
    }
}

fn read(bytes: &[u8]) -> Result<Shape<'_>, RevisionError> {
    check_is_component(bytes)?;
    let invalid = |error: wasmparser::Error| RevisionError::Malformed(error.to_string());
    let mut validator = Validator::new_with_features(features());
    let mut shape = Shape::default();
    let mut bodies = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionEntry(body) if body.as_bytes().len() > MAX_FUNCTION_BYTES => {
                return Err(RevisionError::FunctionTooLarge { bytes: body.as_bytes().len() });
            }
            Payload::CodeSectionEntry(_) if bodies.len() == MAX_FUNCTIONS => {
                return Err(RevisionError::TooManyFunctions);
            }
            _ if depth == 1 => shape.note(&payload).map_err(invalid)?,
            _ => {}
        }
        if let ValidPayload::Func(function, body) = validator.payload(&payload).map_err(invalid)? {
            bodies.push((function, body));
        }
    }
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    for (function, body) in bodies {
        let mut function = function.into_validator(allocations);
        function.validate(&body).map_err(invalid)?;
        allocations = function.into_allocations();
    }
    shape.imports.sort();
    shape.exports.sort();
    Ok(shape)
}

impl<'a> Shape<'a> {
    /// Takes down what a section of the outermost component says.
    fn note(&mut self, payload: &Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    self.imports.push(import?.name.full_name().into_owned());
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    self.exports.push(export?.name.full_name().into_owned());
                }
            }
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                self.manifests.push(section.data());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The features that wasmtime has in this build: its defaults without garbage
/// collection, exceptions, threads and asynchronous components.
fn features() -> WasmFeatures {
    let absent = WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS;
    (WasmFeatures::WASM3 - absent) | WasmFeatures::COMPONENT_MODEL
}

fn host_gives(import: &str) -> bool {
    HOST.iter().any(|(version, names)| names.iter().any(|name| provides(import, name, version)))
}

/// Whether `full` is the interface `name` in a released version of the `major.minor` line.
fn provides(full: &str, name: &str, line: &str) -> bool {
    full.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('@')?.strip_prefix(line)?.strip_prefix('.'))
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}
