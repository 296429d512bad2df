//! Prompts that refer to the input: `{{topic}}`, `{{place.city}}`, and
//! `{{input}}` for all of it.

use serde_json::Value;

use crate::exports::reenact::agent::guest::Failure;
use crate::failure::failure;

/// A text with what it referred to in its place.
pub struct Filled {
    pub text: String,
    /// Whether it referred to anything.
    pub refers: bool,
}

/// Fills `text`, which is the config's `field`. What is filled in is not looked
/// at again, so an input cannot refer to anything.
pub fn fill(field: &str, text: &str, input: &Value) -> Result<Filled, Failure> {
    let mut filled = Filled { text: String::with_capacity(text.len()), refers: false };
    let mut rest = text;
    while let Some((before, name, after)) = next_reference(rest) {
        let value = look_up(input, name).ok_or_else(|| {
            failure(format!(
                "`{field}` refers to `{{{{{name}}}}}`, which this run's input does not have"
            ))
        })?;
        filled.text.push_str(before);
        match value {
            Value::String(text) => filled.text.push_str(text),
            other => filled.text.push_str(&other.to_string()),
        }
        filled.refers = true;
        rest = after;
    }
    filled.text.push_str(rest);
    Ok(filled)
}

/// The text before the first reference, its name, and the text after it. Other
/// braces are text.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find("{{").map(|at| from + at) {
        let inside = &text[open + 2..];
        let name = inside.split_once("}}").map(|(name, after)| (name.trim(), after));
        match name {
            Some((name, after)) if is_name(name) => return Some((&text[..open], name, after)),
            _ => from = open + 1,
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(of_name)
}

fn look_up<'a>(input: &'a Value, name: &str) -> Option<&'a Value> {
    // A field of that name is meant before the whole, and before a path.
    match input.get(name) {
        Some(value) => Some(value),
        None if name == "input" => Some(input),
        None => name.split('.').try_fold(input, |value, part| value.get(part)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(text: &str) -> String {
        let input = json!({ "topic": "fuel {{n}}", "n": 3, "place": { "city": "Łódź" } });
        fill("goal", text, &input).unwrap().text
    }

    #[test]
    fn fields_stand_where_they_are_referred_to() {
        assert_eq!(filled("On {{topic}}, {{ n }} times"), "On fuel {{n}}, 3 times");
        assert_eq!(filled("{{place.city}}: {{place}}"), "Łódź: {\"city\":\"Łódź\"}");
        assert!(filled("{{input}}").starts_with("{\"topic\":\"fuel {{n}}\""));
    }

    #[test]
    fn other_braces_are_text() {
        for text in ["{{", "{{}}", "{{ a b }}", "}}{{", "{ {n} }", "{{{}}}", "{{n"] {
            assert_eq!(filled(text), text);
        }
        assert_eq!(filled("{{{n}}}"), "{3}");
        assert_eq!(filled("{{ä{{n}}"), "{{ä3");
    }

    #[test]
    fn what_the_input_lacks_is_named() {
        let error = fill("system", "about {{subject}}", &json!({})).err().unwrap();
        assert_eq!(
            error.message,
            "`system` refers to `{{subject}}`, which this run's input does not have"
        );
        assert!(!fill("goal", "none", &json!({})).unwrap().refers);
    }
}
