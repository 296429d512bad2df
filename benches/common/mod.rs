//! What the benchmarks share: their guest, and the table of what was measured.

use std::path::Path;
use std::sync::Arc;

use comfy_table::{Table, presets};
use reenact::build::{self, BuildOutput};
use reenact::revision::Revision;

/// Seven events and three tool calls: the short durable run that is measured
/// everywhere.
pub const SHORT_RUN: &str = r#"{"events":7,"calls":3}"#;

/// The guest of the benchmarks.
pub fn guest() -> Arc<Revision> {
    example("bench")
}

/// An example guest, built and sealed.
pub fn example(name: &str) -> Arc<Revision> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples").join(name);
    let built = build::load(&folder).and_then(|project| project.build(BuildOutput::Stderr));
    let bytes = built.unwrap_or_else(|error| panic!("the guest `{name}`: {error}"));
    Arc::new(Revision::open(bytes).unwrap())
}

/// A folder for what a benchmark writes: on the disk of the checkout, because
/// that of temporary files may be memory.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What was measured, row by row.
pub struct Report(Table);

impl Report {
    pub fn new() -> Self {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["what", "figure", "baseline", "ratio", "goal"]);
        Self(table)
    }

    /// `ratio` is that of the figure to the baseline.
    pub fn row(
        &mut self,
        what: &str,
        figure: &str,
        baseline: &str,
        ratio: Option<f64>,
        goal: &str,
    ) {
        let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        self.0.add_row([what, figure, baseline, &ratio, goal]);
    }

    /// Prints the rows, if there are any.
    pub fn print(&self) {
        if !self.0.is_empty() {
            println!("\n{}", self.0);
        }
    }
}

/// Seconds in a unit that reads well.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A rate, of something that takes `seconds` each.
pub fn rate(seconds: f64) -> String {
    format!("{:.0}/s", 1.0 / seconds)
}
