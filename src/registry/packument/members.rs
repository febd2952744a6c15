//! [`Members`]: the members of a JSON object that is known to be valid, in one pass that takes no
//! memory.
//!
//! A document is checked as a whole when it comes in. After that, looking into its versions is most
//! of the work that it makes, and needs no second check.

use std::borrow::Cow;

use memchr::memchr2;

/// One member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// The key, unescaped.
    pub(super) key: Cow<'a, str>,
    /// The raw value.
    pub(super) value: &'a [u8],
}

/// Goes over the members of an object in their order. Of a key that stands twice both come; ends
/// early where the object is not valid after all.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    json: &'a [u8],
    at: usize,
    is_complete: bool,
}

impl<'a> Members<'a> {
    /// The members of `json`; none where that is no object.
    pub(super) fn of(json: &'a [u8]) -> Self {
        let start = skip_space(json, 0);
        let at = match json.get(start) {
            Some(b'{') => start + 1,
            _ => json.len(),
        };
        Self {
            json,
            at,
            is_complete: false,
        }
    }

    /// Whether the end of the object was reached.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn member(&mut self) -> Option<Member<'a>> {
        let mut start = skip_space(self.json, self.at);
        match self.json.get(start)? {
            b'}' => {
                self.is_complete = true;
                return None;
            }
            b',' => start = skip_space(self.json, start + 1),
            _ => {}
        }
        let end = string_end(self.json, start)?;
        let key = text(self.json.get(start..end)?)?;
        let colon = skip_space(self.json, end);
        if self.json.get(colon) != Some(&b':') {
            return None;
        }
        let start = skip_space(self.json, colon + 1);
        let end = value_end(self.json, start)?;
        self.at = end;
        let value = self.json.get(start..end)?;
        Some(Member { key, value })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let member = self.member();
        if member.is_none() {
            self.at = self.json.len();
        }
        member
    }
}

/// The value of the member `key`; of several the last.
pub(super) fn member<'a>(json: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let found = Members::of(json).filter(|member| member.key == key);
    found.last().map(|member| member.value)
}

/// The text of a raw string.
pub(super) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(raw).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

fn skip_space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    let length = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))
        .count();
    from + length
}

/// Where the string that begins at `start` ends.
fn string_end(json: &[u8], start: usize) -> Option<usize> {
    if json.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        let rest = json.get(at..)?;
        let found = memchr2(b'"', b'\\', rest)?;
        if rest.get(found) == Some(&b'"') {
            return Some(at + found + 1);
        }
        at += found + 2;
    }
}

/// Where the value that begins at `start` ends.
fn value_end(json: &[u8], start: usize) -> Option<usize> {
    match json.get(start)? {
        b'"' => string_end(json, start),
        b'{' | b'[' => nested_end(json, start),
        _ => {
            let rest = json.get(start..)?;
            let is_end =
                |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            let length = rest.iter().position(is_end).unwrap_or(rest.len());
            (length > 0).then_some(start + length)
        }
    }
}

fn nested_end(json: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match json.get(at)? {
            b'"' => {
                at = string_end(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::registry::packument::parse_fields;

    /// Any JSON, with spaces and escapes where they may stand.
    fn json() -> impl Strategy<Value = String> {
        let text = r#""([a-z :,{}\[\]é]|\\"|\\\\|\\u0041|\\n){0,6}""#;
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-1.5e3".to_owned()),
            text.prop_map(String::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let member = (text, "[ \n]?", inner.clone()).prop_map(|(key, space, value)| {
                format!("{space}{key}{space}:{space}{value}{space}")
            });
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(member, 0..5)
                    .prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn finds_what_a_parser_finds(json in json()) {
            let mut found: Vec<(String, Bytes)> = Vec::new();
            let mut members = Members::of(json.as_bytes());
            for Member { key, value } in members.by_ref() {
                let value = Bytes::copy_from_slice(value);
                match found.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, known)) => *known = value,
                    None => found.push((key.into_owned(), value)),
                }
            }
            prop_assert_eq!(members.is_complete(), json.starts_with('{'));
            let parsed = parse_fields(&Bytes::from(json.clone())).unwrap_or_default();
            let parsed: Vec<(String, Bytes)> = parsed.into_iter().collect();
            prop_assert_eq!(found, parsed);
        }

        #[test]
        fn never_panics(json in r#"[{}\[\]:,"\\a0 -]{0,60}"#) {
            for Member { value, .. } in Members::of(json.as_bytes()) {
                let _ = text(value);
            }
        }
    }
}
