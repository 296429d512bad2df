//! Names of tools as model APIs accept them, and back.
//!
//! A tool of Reenact has a dot in its name, which most APIs refuse. So every name
//! of a request gets a stand-in that all of them accept; the table lives as long
//! as the request.

use std::collections::BTreeMap;

/// What the narrowest API takes.
const MAX_NAME: usize = 64;

/// Names that genai takes for tools of the provider's own. A guest must not switch
/// those on by naming a tool like them: they cost, and they reach the network.
const RESERVED: [&str; 6] = [
    "WebSearch",
    "web_search",
    "googleSearch",
    "googleSearchRetrieval",
    "codeExecution",
    "urlContext",
];

/// The stand-ins of one request.
#[derive(Debug, Default)]
pub(super) struct Names {
    to_wire: BTreeMap<String, String>,
    to_own: BTreeMap<String, String>,
}

impl Names {
    /// The stand-in of `own`, the same each time.
    pub fn wire(&mut self, own: &str) -> String {
        if let Some(wire) = self.to_wire.get(own) {
            return wire.clone();
        }
        let wire = self.free(&tame(own));
        self.to_wire.insert(own.to_owned(), wire.clone());
        self.to_own.insert(wire.clone(), own.to_owned());
        wire
    }

    /// The name that `wire` stands in for; a name that nobody gave to the model
    /// stays as the model wrote it.
    pub fn own(&self, wire: &str) -> String {
        self.to_own.get(wire).map_or(wire, String::as_str).to_owned()
    }

    /// `name`, or `name_2`, `name_3` and so on if it is taken.
    fn free(&self, name: &str) -> String {
        let is_free =
            |name: &String| !self.to_own.contains_key(name) && !RESERVED.contains(&name.as_str());
        let numbered = (2..).map(|n: usize| {
            let suffix = format!("_{n}");
            let kept = name.len().min(MAX_NAME - suffix.len());
            format!("{}{suffix}", &name[..kept])
        });
        let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
        candidates.find(is_free).expect("there are more numbers than names")
    }
}

/// `name` in letters, digits, `_` and `-`, with a letter or `_` first.
pub(super) fn tame(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut tame: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if !tame.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        tame.insert(0, '_');
    }
    tame.truncate(MAX_NAME);
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        let long = |end: &str| format!("{}{end}", "x".repeat(80));
        let owns = [
            "files.search".to_owned(),
            "files_search".to_owned(),
            "files:search".to_owned(),
            "größe.lesen".to_owned(),
            "9lives".to_owned(),
            "web_search".to_owned(),
            "googleSearch".to_owned(),
            long("a"),
            long("b"),
        ];
        let mut names = Names::default();
        let wires: Vec<String> = owns.iter().map(|own| names.wire(own)).collect();
        assert_eq!(wires[..3], ["files_search", "files_search_2", "files_search_3"]);
        for (own, wire) in owns.iter().zip(&wires) {
            assert!(wire.len() <= MAX_NAME && *wire == tame(wire), "{wire}");
            assert!(!RESERVED.contains(&wire.as_str()), "{wire}");
            assert_eq!(names.own(wire), *own);
            assert_eq!(names.wire(own), *wire, "it stays the same");
        }
        assert_eq!(names.own("made_up"), "made_up");
    }
}
