//! The lines of a file of users: `name:hash`, and a comment behind another colon. What is something else
//! stays byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use crate::models::{Timestamp, Username};

/// What Verdaccio writes before the time at which somebody registered.
const CREATED: &str = "autocreated ";

/// A user as the file has her.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: String,
    /// When she registered, if the file says so.
    pub(super) created: Option<Timestamp>,
}

/// Everybody in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    /// By name. Of two lines with one name, the later one counts, as for Verdaccio.
    pub(super) entries: BTreeMap<String, Entry>,
    /// Names that are taken although nobody has them: those without a hash.
    pub(super) empty: BTreeSet<String>,
    /// Names that nobody can have here.
    pub(super) odd: BTreeSet<String>,
}

impl Users {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut users = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some((name, rest)) = name_of(line) else {
                continue;
            };
            let is_user = name
                .parse::<Username>()
                .is_ok_and(|name| !name.is_reserved());
            if !is_user {
                if !name.starts_with('#') {
                    users.odd.insert(name);
                }
                continue;
            }
            users.add(name, &String::from_utf8_lossy(rest));
        }
        users
    }

    fn add(&mut self, name: String, rest: &str) {
        let (hash, comment) = rest.split_once(':').unwrap_or((rest, ""));
        let hash = trimmed(hash).to_owned();
        if hash.is_empty() {
            self.entries.remove(&name);
            self.empty.insert(name);
            return;
        }
        let created = trimmed(comment).strip_prefix(CREATED);
        let created = created.and_then(Timestamp::parse_rfc3339);
        self.empty.remove(&name);
        self.entries.insert(name, Entry { hash, created });
    }

    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.entries.contains_key(name) || self.empty.contains(name)
    }
}

/// The name of a line, and what stands behind the first colon.
fn name_of(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8_lossy(&line[..colon]);
    Some((trimmed(&name).to_owned(), &line[colon + 1..]))
}

/// Without what JavaScript takes for space at both ends.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
}

/// Whether a line can hold this hash.
pub(super) fn can_hold(hash: &str) -> bool {
    !hash.is_empty() && !hash.contains([':', '\n', '\r']) && trimmed(hash) == hash
}

/// The file with a new user at its end, in Verdaccio's words.
pub(super) fn with(bytes: &[u8], name: &str, hash: &str, created: Timestamp) -> Vec<u8> {
    let mut all = bytes.to_vec();
    if all.last().is_some_and(|last| *last != b'\n') {
        all.push(b'\n');
    }
    all.extend_from_slice(format!("{name}:{hash}:{CREATED}{created}\n").as_bytes());
    all
}

/// The file with another hash in the line that counts for `name`; `None` if there is none.
pub(super) fn with_hash(bytes: &[u8], name: &str, hash: &str) -> Option<Vec<u8>> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let is_hers = |line: &&[u8]| name_of(line).is_some_and(|(found, _)| found == name);
    let index = lines.iter().rposition(is_hers)?;
    let line = lines[index];
    let (_, rest) = name_of(line)?;
    let before = &line[..line.len() - rest.len()];
    let end = rest.iter().position(|byte| *byte == b':');
    let after = end.map_or_else(
        // What ends the line on Windows.
        || {
            if rest.ends_with(b"\r") {
                &b"\r"[..]
            } else {
                b""
            }
        },
        |end| &rest[end..],
    );
    let changed = [before, hash.as_bytes(), after].concat();
    lines[index] = &changed;
    Some(lines.join(&b'\n'))
}

/// Reads and changes a file as a fuzzer wants it. No part of the interface.
pub(in crate::storage) fn fuzz(bytes: &[u8]) {
    let users = Users::parse(bytes);
    let created = Timestamp::from_unix_millis(0);
    for name in users.entries.keys() {
        let changed = with_hash(bytes, name, "x").map(|bytes| Users::parse(&bytes));
        let is_changed = |users: &Users| users.entries.get(name).is_some_and(|it| it.hash == "x");
        assert!(changed.as_ref().is_some_and(is_changed));
        assert_eq!(
            changed.map(|users| users.entries.len()),
            Some(users.entries.len())
        );
    }
    if !users.is_taken("new") {
        let more = Users::parse(&with(bytes, "new", "x", created));
        assert_eq!(more.entries.len(), users.entries.len() + 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &[u8] = b"# a comment: of the administrator\n\
        alice:$2a$04$abc:autocreated 2026-11-26T21:44:45.413Z\n\
        no colon\n\
        bob:{SHA}one\r\n\
         carol : $apr1$x$y :something else: entirely\n\
        bob:{SHA}two\n\
        gr\xc3\xb6\xc3\x9fe:x\n\
        $all:x\n\
        \xff:x\n\
        dave:\n\
        erin:x";

    #[test]
    fn lines_mean_what_they_mean_to_verdaccio() {
        let users = Users::parse(FILE);
        let names: Vec<&str> = users.entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["alice", "bob", "carol", "erin"]);
        let alice = &users.entries["alice"];
        assert_eq!(alice.hash, "$2a$04$abc");
        let created = alice.created.map(|time| time.to_string());
        assert_eq!(created.as_deref(), Some("2026-11-26T21:44:45.413Z"));
        assert_eq!(users.entries["bob"].hash, "{SHA}two");
        assert_eq!(users.entries["carol"].hash, "$apr1$x$y");
        assert_eq!(users.entries["carol"].created, None);
        assert!(users.is_taken("dave") && !users.is_taken("frank"));
        let odd: Vec<&str> = users.odd.iter().map(String::as_str).collect();
        assert_eq!(odd, ["$all", "größe", "\u{fffd}"]);
        assert_eq!(Users::parse(b""), Users::default());
        let marked = Users::parse("\u{feff}zoe:x".as_bytes());
        assert!(marked.is_taken("zoe"));
    }

    #[test]
    fn only_what_is_meant_changes() {
        let after = |name, hash| {
            let changed = with_hash(FILE, name, hash).unwrap();
            String::from_utf8_lossy(&changed).into_owned()
        };
        let before = String::from_utf8_lossy(FILE).into_owned();
        assert_eq!(after("alice", "new"), before.replace("$2a$04$abc", "new"));
        assert_eq!(after("bob", "new"), before.replace("{SHA}two", "new"));
        assert_eq!(after("carol", "new"), before.replace(" $apr1$x$y ", "new"));
        assert_eq!(after("erin", "new"), before.replace("erin:x", "erin:new"));
        assert_eq!(with_hash(FILE, "frank", "new"), None);
        assert_eq!(with_hash(b"a:x\r\nb:y", "a", "z").unwrap(), b"a:z\r\nb:y");
        let time = Timestamp::from_unix_millis(1);
        let more = with(FILE, "frank", "hash", time);
        let end = "erin:x\nfrank:hash:autocreated 1970-01-01T00:00:00.001Z\n";
        assert!(more.starts_with(FILE) && more.ends_with(end.as_bytes()));
        assert!(with(b"", "frank", "hash", time).starts_with(b"frank:"));
    }

    proptest! {
        #[test]
        fn anything_can_be_read_and_changed(
            bytes in "([a-c ]{0,2}(:[a-c: \r]{0,4})?\n?){0,8}",
            other in any::<Vec<u8>>(),
        ) {
            fuzz(bytes.as_bytes());
            fuzz(&other);
            fuzz(&[bytes.as_bytes(), &other].concat());
        }
    }
}
