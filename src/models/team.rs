//! [`Organisation`] and [`Team`]: groups of users, as rules and packages name them.

use std::{fmt, str::FromStr, sync::Arc};

const MAX_LENGTH: usize = 100;

/// The text cannot be the name of an organisation or a team.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no name for an organisation or a team: use lower-case letters, digits, - . and _"
)]
pub struct InvalidTeam(String);

/// The name of an organisation: a scope without its `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Organisation(Arc<str>);

impl Organisation {
    /// The name, without `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The group that all its members hold. No user can have this name.
    pub fn group(&self) -> String {
        format!("@{}", self.0)
    }
}

impl FromStr for Organisation {
    type Err = InvalidTeam;

    /// Reads a name with or without its `@`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_prefix('@').unwrap_or(text);
        parse(name, text).map(Self)
    }
}

impl fmt::Display for Organisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A team of an organisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Team {
    /// Whose team it is.
    pub organisation: Organisation,
    name: Arc<str>,
}

impl Team {
    /// The team `name` of `organisation`.
    pub fn new(organisation: Organisation, name: &str) -> Result<Self, InvalidTeam> {
        let name = parse(name, name)?;
        Ok(Self { organisation, name })
    }

    /// Its name within its organisation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group that its members hold. No user can have this name.
    pub fn group(&self) -> String {
        format!("{}:{}", self.organisation.group(), self.name)
    }
}

fn parse(name: &str, text: &str) -> Result<Arc<str>, InvalidTeam> {
    let is_fine =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let starts_well = !name.starts_with(['.', '_', '-']);
    if !name.is_empty() && name.len() <= MAX_LENGTH && starts_well && name.bytes().all(is_fine) {
        Ok(name.into())
    } else {
        Err(InvalidTeam(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cannot_be_users() {
        let acme: Organisation = "@acme".parse().unwrap();
        assert_eq!(acme, "acme".parse().unwrap());
        assert_eq!(acme.group(), "@acme");
        let team = Team::new(acme, "developers").unwrap();
        assert_eq!(team.group(), "@acme:developers");
        let user: crate::models::Username = "@acme".parse().unwrap();
        assert!(user.is_reserved());
    }

    #[test]
    fn names_are_plain() {
        for text in ["", "@", "A", "a b", "a:b", "a/b", "..", "@@a", "größe"] {
            assert!(text.parse::<Organisation>().is_err(), "{text:?}");
        }
    }
}
