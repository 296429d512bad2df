//! Sealing a manifest into a component, and opening what was sealed.
//!
//! A sealed file stays a plain component. The manifest is its last custom
//! section; name, version, authors, licence and description are there a second
//! time, where other tools look for them.

use std::borrow::Cow;
use std::sync::Arc;

use wasm_encoder::{ComponentSection, CustomSection, RawSection};
use wasm_metadata::{AddMetadata, AddMetadataField, Authors, Description, Licenses, Version};
use wasmparser::{Parser, Payload};

use super::component::{self, GUEST, MAX_COMPONENT_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS};
use super::digest::Digest;
use super::manifest::{InvalidManifest, Manifest};

/// Name of the custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "reenact-manifest";

/// Custom sections that sealing writes; what was there before is replaced.
const OWN_SECTIONS: &[&str] = &["authors", "description", "licenses", "version", MANIFEST_SECTION];

/// A sealed component that passed every check which does not need an engine.
#[derive(Debug, Clone)]
pub struct Revision {
    pub digest: Digest,
    pub manifest: Manifest,
    pub bytes: Arc<[u8]>,
    /// What the component imports, in alphabetical order.
    pub imports: Vec<String>,
    /// What the component exports, in alphabetical order.
    pub exports: Vec<String>,
}

/// Why a file is not a revision, or cannot become one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RevisionError {
    #[error("the file is not WebAssembly")]
    NotWasm,
    #[error("the file is WebAssembly text, not a binary")]
    Text,
    #[error("the file is a core module, not a component")]
    CoreModule,
    #[error("the component has {bytes} bytes, at most {MAX_COMPONENT_BYTES} are allowed")]
    TooLarge { bytes: usize },
    #[error(
        "a function of the component has {bytes} bytes, at most {MAX_FUNCTION_BYTES} are allowed"
    )]
    FunctionTooLarge { bytes: usize },
    #[error("the component has more than {MAX_FUNCTIONS} functions")]
    TooManyFunctions,
    #[error("the component is not valid: {0}")]
    Malformed(String),
    #[error("the component does not export `{GUEST}@0.1.0`{}", listed(.exports))]
    NoGuest { exports: Vec<String> },
    #[error("the component imports `{import}`, which the host does not give")]
    UnknownImport { import: String },
    #[error("the component has no manifest")]
    NotSealed,
    #[error("the component has {0} manifests")]
    SeveralManifests(usize),
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
}

impl RevisionError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotWasm => Some("give the `.wasm` file that `reenact build` wrote"),
            Self::Text => Some("`wasm-tools parse FILE.wat -o FILE.wasm` makes a binary of it"),
            Self::CoreModule => Some(
                "build for the target `wasm32-wasip2`, or make a component of it with `wasm-tools component new`",
            ),
            Self::NoGuest { .. } => Some("implement the world `agent` of wit/agent.wit"),
            Self::UnknownImport { import } if import.starts_with("wasi:") => {
                Some("agents run on WASI 0.2: build with a toolchain and bindings for it")
            }
            Self::UnknownImport { .. } => Some(
                "an agent may import `reenact:agent` and WASI 0.2; reach all else through tools",
            ),
            Self::NotSealed | Self::SeveralManifests(_) => {
                Some("run `reenact build` in the agent's folder")
            }
            Self::Manifest(error) => error.hint(),
            _ => None,
        }
    }
}

fn listed(exports: &[String]) -> String {
    match exports {
        [] => ": it exports nothing".to_owned(),
        some => format!(": it exports `{}`", some.join("`, `")),
    }
}

impl Revision {
    /// Checks everything that can be checked without compiling.
    pub fn open(bytes: impl Into<Arc<[u8]>>) -> Result<Self, RevisionError> {
        let bytes = bytes.into();
        let shape = component::inspect(&bytes)?;
        let manifest = match shape.manifests.as_slice() {
            [manifest] => Manifest::from_json(manifest)?,
            [] => return Err(RevisionError::NotSealed),
            several => return Err(RevisionError::SeveralManifests(several.len())),
        };
        let (imports, exports) = (shape.imports, shape.exports);
        Ok(Self { digest: Digest::of(&bytes), manifest, bytes, imports, exports })
    }
}

/// Seals `manifest` into `component`, which may be sealed already: the new
/// manifest then takes the old one's place. The same inputs give the same bytes.
pub fn seal(component: &[u8], manifest: &Manifest) -> Result<Vec<u8>, RevisionError> {
    manifest.validate()?;
    component::inspect(component)?;
    let stripped = strip(component)?;
    let mut sealed = metadata(manifest)
        .to_wasm(&stripped)
        .map_err(|error| RevisionError::Malformed(error.to_string()))?;
    CustomSection {
        name: Cow::Borrowed(MANIFEST_SECTION),
        data: Cow::Owned(manifest.to_canonical_json()),
    }
    .append_to_component(&mut sealed);
    component::check_is_component(&sealed)?;
    Ok(sealed)
}

fn metadata(manifest: &Manifest) -> AddMetadata {
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(manifest.name.to_string());
    if let Some(version) = &manifest.version {
        metadata.version = AddMetadataField::Set(Version::new(version.clone()));
    }
    if !manifest.authors.is_empty() {
        metadata.authors = AddMetadataField::Set(Authors::new(manifest.authors.join(", ")));
    }
    if !manifest.description.is_empty() {
        let description = Description::new(manifest.description.clone());
        metadata.description = AddMetadataField::Set(description);
    }
    // A validated manifest's licence is one that `Licenses` accepts.
    if let Some(Ok(license)) = manifest.license.as_deref().map(Licenses::new) {
        metadata.licenses = AddMetadataField::Set(license);
    }
    metadata
}

/// The component without the sections that sealing writes. `wasm-metadata`
/// would add a second one instead of replacing the first.
fn strip(component: &[u8]) -> Result<Vec<u8>, RevisionError> {
    let invalid = |error: wasmparser::Error| RevisionError::Malformed(error.to_string());
    let mut stripped = wasm_encoder::Component::HEADER.to_vec();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
        let own = matches!(&payload, Payload::CustomSection(section) if OWN_SECTIONS.contains(&section.name()));
        if let (1, false, Some((id, range))) = (depth, own, payload.as_section()) {
            let data = &component[range.start as usize..range.end as usize];
            RawSection { id, data }.append_to_component(&mut stripped);
        }
    }
    Ok(stripped)
}

#[cfg(test)]
mod tests;
