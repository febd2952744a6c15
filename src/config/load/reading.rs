//! [`Reading`]: what a line of a file means, for whoever wants to know before starting.

use std::fmt;

use super::Loader;
use crate::config::{
    Setting,
    keys::meaning,
    show::displayable,
    yaml::{Node, snake_case},
};

/// What a line of a file comes to.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The path of the key, as it is written.
    pub path: String,
    /// Its value as far as it may be shown.
    pub value: String,
    /// What it means.
    pub meaning: Meaning,
}

/// What a key means.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// It is this setting.
    Setting(&'static Setting),
    /// It says nothing, so that the default counts.
    Blank,
    /// A key that only files have does this.
    Key(&'static str),
    /// It is so anyway, or need not be.
    AsThere(String),
    /// It does nothing, and why.
    Nothing(String),
    /// With it the registry does not start, and why.
    Refused(String),
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(setting) => write!(f, "{} ({})", setting.help, setting.variable),
            Self::Blank => f.write_str("says nothing, so that the default counts"),
            Self::Key(does) => f.write_str(does),
            Self::AsThere(text) => f.write_str(text),
            Self::Nothing(text) => write!(f, "WARNING {text}"),
            Self::Refused(text) => write!(f, "REFUSED {text}"),
        }
    }
}

impl Loader<'_> {
    pub(super) fn reads(&mut self, path: &str, value: &str, meaning: Meaning) {
        let is_secret = matches!(meaning, Meaning::Setting(setting) if setting.is_secret);
        let value = if is_secret { "(hidden)" } else { value };
        self.readings.push(Reading {
            path: path.to_owned(),
            value: displayable(value),
            meaning,
        });
    }

    /// What is said in the maps that are read as a whole.
    pub(super) fn reads_map(&mut self, map: &str, path: &str, node: &Node) {
        match (map, node) {
            ("uplinks" | "packages", Node::Map(members)) => {
                for (name, node) in members {
                    self.reads_members(map, &format!("{path}.{name}"), node);
                }
            }
            ("notify" | "notifications", node) => self.reads_members("notify", path, node),
            ("http_proxy" | "https_proxy" | "no_proxy", node) => {
                let value = node.to_text().unwrap_or_default();
                self.reads(path, &value, Meaning::Key(meaning("", map)));
            }
            _ => {}
        }
    }

    fn reads_members(&mut self, map: &str, path: &str, node: &Node) {
        let Node::Map(members) = node else {
            return;
        };
        for (key, node) in members {
            let path = format!("{path}.{key}");
            let key = snake_case(key);
            let does = meaning(map, &key);
            match node {
                // A map of hooks.
                Node::Map(_) if map == "notify" && does.is_empty() => {
                    self.reads_members(map, &path, node);
                }
                _ if does.is_empty() => {}
                _ => {
                    let is_secret = matches!(&*key, "auth" | "headers" | "content");
                    let value = node.to_text().filter(|_| !is_secret).unwrap_or_default();
                    // The path of such an address is often all that protects it.
                    let origin = value.parse::<url::Url>().map(|url| url.origin());
                    let value = match origin {
                        Ok(origin) if key == "endpoint" => origin.ascii_serialization(),
                        _ => value,
                    };
                    self.reads(&path, &value, Meaning::Key(does));
                }
            }
        }
    }
}
