//! `${NAME}` and `${NAME:-default}` in what an operator writes about a server.

use crate::tools::vault::Vault;

/// Parts of names whose values nobody is meant to see.
const SECRET_NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH"];

/// Text whose variables are replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// Whether any part of it came from a variable.
    pub from_variable: bool,
}

/// Replaces every variable by its value in the configuration's `[secrets]` or
/// the environment, else by its default. `$${` stands for `${`. The error ends
/// the sentence that begins with the place of the text.
pub fn expand(text: &str, vault: &Vault) -> Result<Expanded, String> {
    let mut expanded = Expanded { text: String::new(), from_variable: false };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            rest = after;
            continue;
        }
        let Some(end) = after.find('}') else { break };
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        expanded.text.push_str(before);
        match (vault.lookup(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => {
                expanded.text.push_str(&value);
                expanded.from_variable = true;
                if vault.names(name) || looks_secret(name) {
                    vault.remember(value);
                }
            }
            (None, Some(default)) => expanded.text.push_str(default),
            (None, None) => {
                return Err(format!(
                    "needs the variable `{name}`, which neither `[secrets]` nor the environment has"
                ));
            }
        }
        rest = &after[end + 1..];
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// Whether a variable or a header of this name holds what nobody should see.
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn vault() -> Vault {
        let named = [("PLACE", "garden"), ("API_KEY", "sk-canary"), ("EMPTY", "")];
        Vault::new(BTreeMap::from(named.map(|(name, value)| (name.into(), value.into()))))
    }

    fn expanded(text: &str) -> String {
        expand(text, &vault()).unwrap().text
    }

    #[test]
    fn variables_are_replaced_and_defaults_stand_in() {
        assert_eq!(expanded("plain"), "plain");
        assert_eq!(expanded("${PLACE}/${PLACE}"), "garden/garden");
        assert_eq!(expanded("${NO_SUCH_VARIABLE:-a:-b}!"), "a:-b!");
        assert_eq!(expanded("${EMPTY:-full}"), "full");
        assert_eq!(expanded("${NO_SUCH_VARIABLE:-}"), "");
        assert_eq!(expanded("${PLACE:-other}"), "garden");
        assert_eq!(expanded("$${PLACE} $PLACE ${PLACE"), "${PLACE} $PLACE ${PLACE");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = expand("x ${NO_SUCH_VARIABLE}", &vault()).unwrap_err();
        assert!(error.contains("the variable `NO_SUCH_VARIABLE`"), "{error}");
    }

    #[test]
    fn what_came_from_a_variable_is_known_and_secrets_are_remembered() {
        let vault = vault();
        assert!(!expand("plain", &vault).unwrap().from_variable);
        assert!(!expand("${NO_SUCH_VARIABLE:-x}", &vault).unwrap().from_variable);
        assert!(expand("${API_KEY}", &vault).unwrap().from_variable);
        assert_eq!(vault.scrub_text("sk-canary"), "[secret]");
    }

    #[test]
    fn names_of_secrets_are_recognised() {
        for name in ["GITHUB_TOKEN", "api-key", "Authorization", "db_password"] {
            assert!(looks_secret(name), "{name}");
        }
        assert!(!looks_secret("PLACE"));
    }
}
