//! Texts of strangers, as a line of a page shows them.

use serde_json::Value;

use crate::models::Timestamp;

/// How many marks of one character are shown: more of them would cover the lines above and below.
const MAX_MARKS: usize = 4;

/// `text` in one line, without what changes the direction of what comes after it or cannot be seen; cut after `most`
/// characters.
pub(super) fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let (mut length, mut marks) = (0, 0);
    for character in text.trim().chars() {
        let character = if character.is_whitespace() {
            ' '
        } else {
            character
        };
        marks = if is_mark(character) { marks + 1 } else { 0 };
        if is_hidden(character) || marks > MAX_MARKS {
            continue;
        }
        if length == most {
            line.push('…');
            break;
        }
        line.push(character);
        length += 1;
    }
    line
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether it is drawn over the character before it.
fn is_mark(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// The name of `author`, `publisher` or one of `maintainers`.
pub(super) fn person(person: &Value) -> String {
    let name = match person {
        Value::Object(object) => ["name", "username"]
            .iter()
            .find_map(|key| object.get(*key).and_then(Value::as_str)),
        Value::String(text) => text.split(['<', '(']).next(),
        _ => None,
    };
    line(name.unwrap_or_default(), 60)
}

/// `1.2 MB`
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        (whole, rest) = (whole / 1000, whole % 1000 / 100);
        unit += 1;
    }
    let unit = UNITS[unit];
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{rest} {unit}")
    }
}

/// `2026-01-02 03:04:05 UTC`
pub(super) fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    let second = rest.split('.').next().unwrap_or_default();
    format!("{day} {second} UTC")
}

/// An address that a page may link to.
pub(super) fn link(text: &str) -> Option<String> {
    let url: url::Url = text.trim().parse().ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hide_nothing() {
        assert_eq!(line(" a\nb\u{202e}c\u{200b} ", 10), "a bc");
        assert_eq!(line("äöüß", 3), "äöü…");
        assert_eq!(line("äöü", 3), "äöü");
        assert_eq!(line("a\u{ad}b\u{e0061}c\u{2028}", 10), "abc");
    }

    #[test]
    fn marks_do_not_cover_other_lines() {
        let flood = format!("e{}f", "\u{301}".repeat(100));
        assert_eq!(line(&flood, 100), format!("e{}f", "\u{301}".repeat(4)));
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (123_456, "123 kB"),
            (99_900_000, "99.9 MB"),
            (5_000_000_000_000, "5000 GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn moments_are_read_easily() {
        let time = Timestamp::from_unix_millis(1_767_323_045_678);
        assert_eq!(moment(time), "2026-01-02 03:04:05 UTC");
    }

    #[test]
    fn only_pages_are_linked() {
        assert!(link("https://example.com/a").is_some());
        for text in [
            "javascript:alert(1)",
            "data:text/html,x",
            "/a",
            "",
            "file:///etc",
        ] {
            assert_eq!(link(text), None, "{text}");
        }
    }
}
