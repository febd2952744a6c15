//! [`Node`]: a file as a tree of texts, lists and maps. What a text means is the setting's affair.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Nothing stands behind the key.
    Empty,
    /// A text, number or switch, as text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A map, in the order of the file.
    Map(Vec<(String, Self)>),
}

impl Node {
    /// Reads a file. An empty one is an empty map.
    pub(super) fn parse(text: &str) -> Result<Vec<(String, Self)>, String> {
        if text.lines().all(is_blank) {
            return Ok(Vec::new());
        }
        match serde_saphyr::from_str::<Self>(text) {
            Ok(Self::Map(members)) => Ok(members),
            Ok(Self::Empty) => Ok(Vec::new()),
            Ok(_) => Err("the file must be a map of settings".to_owned()),
            Err(error) => Err(first_line(&error.to_string())),
        }
    }

    /// Whether it says nothing: no value, or a text of spaces. An empty list does say something.
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(_) | Self::Map(_) => false,
        }
    }

    /// A text, or a list of texts with commas between.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Empty => Some(String::new()),
            Self::Text(text) => Some(text.clone()),
            Self::List(items) => {
                let texts: Option<Vec<String>> = items.iter().map(Self::to_text).collect();
                texts.map(|texts| texts.join(","))
            }
            Self::Map(_) => None,
        }
    }

    /// The words of a text or of a list: Verdaccio takes both for groups and uplinks.
    pub(super) fn words(&self) -> Option<Vec<String>> {
        match self {
            Self::Empty => Some(Vec::new()),
            Self::Text(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
            Self::List(items) => {
                let words: Option<Vec<Vec<String>>> = items.iter().map(Self::words).collect();
                words.map(|words| words.concat())
            }
            Self::Map(_) => None,
        }
    }
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The library draws the place in several lines; a problem is one.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().unwrap_or("it is not YAML").to_owned()
}

/// `maxAge` and `max-age` as `max_age`.
pub(super) fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for character in key.chars() {
        if character.is_ascii_uppercase() {
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.push(character.to_ascii_lowercase());
        } else if character == '-' {
            snake.push('_');
        } else {
            snake.push(character);
        }
    }
    snake
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list or a map")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Empty)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Empty)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Node::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn files_keep_their_order() {
        let members = Node::parse("b: 1\na:\n  - x y\n  - true\n'**': ~\nc: 0x1f\n").unwrap();
        assert_eq!(members[0], ("b".to_owned(), text("1")));
        assert_eq!(members[1].1.to_text().as_deref(), Some("x y,true"));
        assert_eq!(members[1].1.words().unwrap(), ["x", "y", "true"]);
        assert_eq!(members[2], ("**".to_owned(), Node::Empty));
        assert_eq!(Node::parse("# nothing\n\n"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for file in ["- a", "text", "a: b: c", "a: [", "a: 1\na: 2"] {
            assert!(Node::parse(file).is_err(), "{file}");
        }
    }

    #[test]
    fn aliases_cannot_blow_up() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let item = format!("*a{}", level - 1);
            let items = vec![item; 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(Node::parse(&bomb).is_err());
    }

    #[test]
    fn keys_of_all_styles_are_one() {
        assert_eq!(snake_case("keepAliveTimeout"), "keep_alive_timeout");
        assert_eq!(snake_case("check_owners"), "check_owners");
        assert_eq!(snake_case("max-fails"), "max_fails");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c:\\-\\[\\]{}&*!|>'\"#% \n\t0-9]{0,60}") {
            let _ = Node::parse(&text);
        }
    }
}
