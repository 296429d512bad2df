//! Numbers, times and foreign text in the form that people read.

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use crate::journal::Micros;

/// Text of a guest, a tool or a file: control characters, which could drive the
/// reader's terminal, are shown as escapes. Line ends stay.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(c),
            c if c.is_control() || is_direction(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// Characters that reorder the text around them.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`safe`] text on one line, cut to `width` characters.
pub fn line(text: &str, width: usize) -> String {
    indented(text.trim_start(), width)
}

/// Like [`line()`], with the white space at its beginning.
pub fn indented(text: &str, width: usize) -> String {
    let text = safe(text).replace(['\n', '\t'], " ");
    let text = text.trim_end();
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => {
            let end = text.char_indices().nth(width.saturating_sub(1)).map_or(0, |(at, _)| at);
            format!("{}…", &text[..end])
        }
    }
}

/// Millionths as a decimal number, without the zeros at its end.
pub fn millionths(count: u64) -> String {
    let text = format!("{}.{:06}", count / 1_000_000, count % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Keys whose value says what an object is about; shown first and without the key.
const HEADLINES: [&str; 4] = ["text", "message", "goal", "title"];

/// JSON for people: strings without quotes, objects as `key: value`.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let headline = HEADLINES.iter().find_map(|key| Some((*key, map.get(*key)?)));
            let rest = map.iter().filter(|(key, _)| headline.is_none_or(|(head, _)| head != *key));
            let rest = rest.map(|(key, value)| format!("{key}: {}", nested(value)));
            let parts: Vec<String> =
                headline.iter().map(|(_, value)| nested(value)).chain(rest).collect();
            parts.join(" · ")
        }
        value => nested(value),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join("; ")
        }
        value => value.to_string(),
    }
}

pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// Fuel, to three digits.
pub fn fuel(n: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, " G"), (1_000_000, " M"), (1_000, " k")];
    match UNITS.iter().find(|(size, _)| n >= *size) {
        None => n.to_string(),
        Some((size, unit)) => {
            let scaled = n as f64 / *size as f64;
            let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
            format!("{scaled:.digits$}{unit}")
        }
    }
}

pub fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// A length of time, from microseconds.
pub fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", micros as f64 / 1e6),
        _ => {
            let seconds = micros.saturating_add(500_000) / 1_000_000;
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match hours {
                0 => format!("{minutes} min {seconds} s"),
                _ => format!("{hours} h {minutes} min"),
            }
        }
    }
}

/// Date and time in UTC.
pub fn time(micros: Micros) -> String {
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{micros} µs"),
    }
}

/// Date and time as RFC 3339 in UTC, for machines.
pub fn timestamp(micros: Micros) -> String {
    crate::journal::rfc3339(micros)
}

/// `1 entry`, `2 entries`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_drive_the_terminal() {
        assert_eq!(safe("a\u{1b}[31mb\r\u{202e}c\n"), "a\\u{1b}[31mb\\u{d}\\u{202e}c\n");
    }

    #[test]
    fn lines_are_cut_at_characters() {
        assert_eq!(line("ä\nö ü", 20), "ä ö ü");
        assert_eq!(line("äöüä", 3), "äö…");
        assert_eq!(line("äöü", 3), "äöü");
    }

    #[test]
    fn numbers_are_short() {
        let fuels = [0, 999, 1_000, 12_345, 1_234_567, 10_000_000_000].map(fuel);
        assert_eq!(fuels, ["0", "999", "1.00 k", "12.3 k", "1.23 M", "10.0 G"]);
        let times = [5, 1_500, 2_000_000, 90_000_000, 7_200_000_000].map(duration);
        assert_eq!(times, ["5 µs", "1.5 ms", "2.00 s", "1 min 30 s", "2 h 0 min"]);
        assert_eq!(time(1_700_000_000_123_456), "2023-11-14 22:13:20 UTC");
        assert_eq!(timestamp(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
    }
}
