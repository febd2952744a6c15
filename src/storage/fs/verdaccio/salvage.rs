//! What can still be read of a list that is damaged, most often because it ends too early.

use super::list::{LIST, SECRET};

/// The strings that are whole in a damaged list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) secret: Option<String>,
    pub(super) names: Vec<String>,
}

/// Finds the secret and the names in the order in which Verdaccio writes them, or another one.
pub(super) fn salvage(damaged: &[u8]) -> Salvaged {
    let text = String::from_utf8_lossy(damaged);
    let secret = after(&text, SECRET).and_then(string_at);
    let mut salvaged = Salvaged {
        secret: secret.map(|(secret, _)| secret),
        names: Vec::new(),
    };
    let mut rest = after(&text, LIST).and_then(|rest| rest.strip_prefix('['));
    while let Some((name, behind)) = rest.and_then(|rest| string_at(rest.trim_start())) {
        salvaged.names.push(name);
        rest = behind.trim_start().strip_prefix(',');
    }
    salvaged
}

/// What follows the colon behind the member `key`.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let quoted = format!("\"{key}\"");
    let mut at = text.match_indices(&quoted);
    at.find_map(|(at, found)| {
        let rest = text.get(at + found.len()..)?.trim_start();
        Some(rest.strip_prefix(':')?.trim_start())
    })
}

/// The JSON string that `text` begins with, and what is behind it.
fn string_at(text: &str) -> Option<(String, &str)> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let string = strings.next()?.ok()?;
    Some((string, text.get(strings.byte_offset()..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_whole_is_found() {
        let found = |text: &str| {
            let found = salvage(text.as_bytes());
            (found.secret, found.names.join(" "))
        };
        let some = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("", (None, "")),
            (r#"{"list":["a","@s/b","c"#, (None, "a @s/b")),
            (
                r#"{"secret":"x\"y","list":["a"] garbage"#,
                (some("x\"y"), "a"),
            ),
            (
                r#"{ "list" : [ "a" , 7, "b" ] , "secret" : "s" "#,
                (some("s"), "a"),
            ),
            (
                r#"{"list":["list","secret"],"secret":"#,
                (None, "list secret"),
            ),
            ("\0\0\0", (None, "")),
        ] {
            let (secret, names) = expected;
            assert_eq!(found(text), (secret, names.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_damaged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            salvage(&bytes);
        }

        #[test]
        fn what_was_cut_off_says_nothing_wrong(names in prop::collection::vec("[a-z\"\\\\]{0,4}", 0..5), cut in 0_usize..60) {
            let whole = serde_json::json!({ "list": &names, "secret": "s" }).to_string();
            let found = salvage(whole.as_bytes().get(..cut).unwrap_or(whole.as_bytes()));
            prop_assert!(names.starts_with(&found.names));
        }
    }
}
