//! Brace expansion: `{a,b}c` is `ac` and `bc`, `{1..3}` is `1`, `2` and `3`.

const MAX_EXPANSIONS: usize = 1000;

/// All texts that `text` stands for; `None` if there are too many.
pub(super) fn expand(text: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut waiting = vec![(text.to_owned(), 0)];
    while let Some((text, from)) = waiting.pop() {
        match first_choice(&text, from) {
            None => done.push(text),
            Some(Choice { open, close, parts }) if parts.len() > 1 => {
                // Pushed in reverse, so that the first part is expanded first.
                for part in parts.iter().rev() {
                    waiting.push((
                        format!("{}{part}{}", &text[..open], &text[close + 1..]),
                        open,
                    ));
                }
            }
            // `{a}` is text, but what stands inside may be a choice.
            Some(Choice { open, .. }) => waiting.push((text, open + 1)),
        }
        if done.len() + waiting.len() > MAX_EXPANSIONS {
            return None;
        }
    }
    Some(done)
}

struct Choice {
    open: usize,
    close: usize,
    parts: Vec<String>,
}

/// The first balanced pair of braces at or after `from`.
fn first_choice(text: &str, from: usize) -> Option<Choice> {
    let bytes = text.as_bytes();
    let mut open = from;
    loop {
        open += bytes.get(open..)?.iter().position(|&byte| byte == b'{')?;
        if let Some((close, parts)) = parts_of(text, open) {
            return Some(Choice { open, close, parts });
        }
        open += 1;
    }
}

fn parts_of(text: &str, open: usize) -> Option<(usize, Vec<String>)> {
    let mut depth = 0_usize;
    let mut start = open + 1;
    let mut parts = Vec::new();
    for (index, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => {
                parts.push(text[start..index].to_owned());
                start = index + 1;
            }
            b'}' if depth == 1 => {
                let last = &text[start..index];
                if parts.is_empty() {
                    parts = sequence(last).unwrap_or_else(|| vec![last.to_owned()]);
                } else {
                    parts.push(last.to_owned());
                }
                return Some((index, parts));
            }
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `1..3` or `a..c`.
fn sequence(text: &str) -> Option<Vec<String>> {
    let (low, high) = text.split_once("..")?;
    if let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) {
        return Some(
            (low.min(high)..=low.max(high))
                .map(|number| number.to_string())
                .collect(),
        );
    }
    let single = |text: &str| {
        let mut characters = text.chars();
        characters
            .next()
            .filter(|c| characters.next().is_none() && c.is_ascii_alphabetic())
    };
    let (low, high) = (single(low)?, single(high)?);
    Some((low.min(high)..=low.max(high)).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(expand(text).unwrap(), expected, "{text:?}");
    }

    #[test]
    fn expands_like_a_shell() {
        check("a", &["a"]);
        check("{a,b}", &["a", "b"]);
        check("x{a,b}y", &["xay", "xby"]);
        check("{a,{b,c}}d", &["ad", "bd", "cd"]);
        check("{a,b}{c,d}", &["ac", "ad", "bc", "bd"]);
        check("{1..3}", &["1", "2", "3"]);
        check("{a}", &["{a}"]);
        check("{a,b", &["{a,b"]);
        check("{{a,b}", &["{a", "{b"]);
    }

    #[test]
    fn explosions_are_refused() {
        assert_eq!(expand(&"{a,b}".repeat(20)), None);
        assert_eq!(expand("{1..60000}"), None);
    }
}
