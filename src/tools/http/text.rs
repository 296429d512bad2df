//! Bytes of a body as text, if they are text, and the title of a page.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// How far into a page its title is looked for: beyond what stands before it on
/// any page that people read.
const TITLE_WITHIN: usize = 64 << 10;
/// Longer than any title that a person would read.
const MAX_TITLE: usize = 1_000;

/// The body as text, or nothing if it is binary. `cut` says that the body went
/// on, so that its last character may be half there.
pub fn decode(body: &[u8], content_type: Option<&str>, cut: bool) -> Option<String> {
    let charset = content_type.and_then(charset);
    let marked = Encoding::for_bom(body).map(|(encoding, _)| encoding);
    if let Some(encoding) = marked.or(charset).filter(|encoding| *encoding != UTF_8) {
        return Some(encoding.decode(body).0.into_owned());
    }
    match std::str::from_utf8(body) {
        _ if body.contains(&0) => None,
        Ok(_) => Some(UTF_8.decode(body).0.into_owned()),
        Err(error) if cut && error.error_len().is_none() => {
            Some(UTF_8.decode(&body[..error.valid_up_to()]).0.into_owned())
        }
        // Here and there a byte is wrong.
        Err(_) if charset.or(marked).is_some() => Some(UTF_8.decode(body).0.into_owned()),
        // What the web takes for text that does not say what it is.
        Err(_) if content_type.is_some_and(is_text) => {
            Some(WINDOWS_1252.decode(body).0.into_owned())
        }
        Err(_) => None,
    }
}

/// The media type without parameters, in lower case.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_text(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.starts_with("text/") || essence.ends_with("+xml") || essence == "application/xml"
}

pub fn is_html(content_type: &str) -> bool {
    ["text/html", "application/xhtml+xml"].contains(&essence(content_type).as_str())
}

/// The encoding that a media type names, of text.
fn charset(content_type: &str) -> Option<&'static Encoding> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|it| it.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Encoding::for_label(value.trim().trim_matches('"').as_bytes())
}

/// The title of an HTML page, on one line.
pub fn title(page: &str) -> Option<String> {
    let page = &page[..page.floor_char_boundary(TITLE_WITHIN)];
    let mut rest = page;
    loop {
        rest = &rest[find(rest, "<title")? + "<title".len()..];
        // Not the element of another name, such as `<titles>`.
        if rest.starts_with(['>', '/']) || rest.starts_with(|c: char| c.is_ascii_whitespace()) {
            break;
        }
    }
    let text = &rest[rest.find('>')? + 1..];
    let text = unescape(&text[..find(text, "</title")?]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let title = words.join(" ");
    let title = &title[..title.floor_char_boundary(MAX_TITLE)];
    (!title.is_empty()).then(|| title.to_owned())
}

/// Where `needle`, in lower case, stands in `text`, in whatever case.
fn find(text: &str, needle: &str) -> Option<usize> {
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    text.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}

/// Replaces the character references that titles are written with.
fn unescape(text: &str) -> String {
    /// `&#x10ffff;` is the longest of them.
    const LONGEST: usize = 10;
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(LONGEST).position(|byte| byte == b';');
        match end.and_then(|end| Some((character(&rest[1..end])?, end))) {
            Some((character, end)) => {
                plain.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain + rest
}

fn character(name: &str) -> Option<char> {
    let number = match name.strip_prefix('#') {
        Some(number) => number,
        None => {
            const NAMED: [(&str, char); 14] = [
                ("amp", '&'),
                ("lt", '<'),
                ("gt", '>'),
                ("quot", '"'),
                ("apos", '\''),
                ("nbsp", ' '),
                ("ndash", '–'),
                ("mdash", '—'),
                ("hellip", '…'),
                ("laquo", '«'),
                ("raquo", '»'),
                ("bull", '•'),
                ("middot", '·'),
                ("copy", '©'),
            ];
            return NAMED.iter().find(|(known, _)| *known == name).map(|(_, it)| *it);
        }
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_bytes() {
        for (body, content_type, text) in [
            (&b"caf\xC3\xA9"[..], Some("text/plain"), Some("café")),
            (b"caf\xC3\xA9", None, Some("café")),
            (b"caf\xC3\xA9", Some("application/octet-stream"), Some("café")),
            (b"\xEF\xBB\xBFx", Some("application/json"), Some("x")),
            (b"caf\xE9", Some("text/plain; charset=ISO-8859-1"), Some("café")),
            (b"caf\xE9", Some("text/html;a=b; Charset=\"latin1\""), Some("café")),
            (b"caf\xE9", Some("text/html"), Some("café")),
            (b"caf\xE9", Some("text/html; charset=utf-8"), Some("caf\u{FFFD}")),
            (b"\x82\xA0", Some("text/html; charset=Shift_JIS"), Some("あ")),
            (b"\xFF\xFEh\0i\0", Some("text/plain"), Some("hi")),
            (b"h\0i\0", Some("text/plain; charset=utf-16le"), Some("hi")),
            (b"", None, Some("")),
            (b"caf\xE9", None, None),
            (b"caf\xE9", Some("application/octet-stream"), None),
            (b"a\0b", Some("text/plain"), None),
            (b"a\0b", Some("text/plain; charset=utf-8"), None),
            (b"\x89PNG\r\n\x1A\n", Some("image/png"), None),
        ] {
            assert_eq!(decode(body, content_type, false).as_deref(), text, "{content_type:?}");
        }
    }

    #[test]
    fn half_a_character_at_a_cut_is_left_out() {
        let text = "aé€😀".as_bytes();
        let whole: Vec<_> =
            (0..=text.len()).map(|end| decode(&text[..end], None, true).unwrap().len()).collect();
        assert_eq!(whole, [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10]);
        assert_eq!(decode(&text[..2], None, false), None);
    }

    #[test]
    fn a_title_is_found_as_people_write_it() {
        for (page, expected) in [
            ("<html><title>Fuel</title>", Some("Fuel")),
            ("<TITLE lang=en>\n Fuel &amp;\n  Clocks </Title >", Some("Fuel & Clocks")),
            ("<titles>no</titles><title>yes</title>", Some("yes")),
            (
                "<title>a &lt;b&gt; &#8211; &#x1F600; &nbsp;c &unknown; & d</title>",
                Some("a <b> – 😀 c &unknown; & d"),
            ),
            ("<title>&#xD800;&#99999999;&;&", None),
            ("<title>&#xD800;&;&</title>", Some("&#xD800;&;&")),
            ("<title>&äääääää;</title>", Some("&äääääää;")),
            ("<title> </title>", None),
            ("<title>open", None),
            ("<title", None),
            ("no title", None),
            ("", None),
        ] {
            assert_eq!(title(page).as_deref(), expected, "{page}");
        }
        assert_eq!(title(&format!("<title>{}</title>", "é".repeat(900))).unwrap().len(), 1_000);
        assert_eq!(title(&format!("{}<title>late</title>", "é".repeat(40_000))), None);
    }
}
