//! [`Rules`]: the compiled `packages` section. The first rule that matches decides.

use crate::{
    config::{PackageRule, PackagesConfig},
    models::{AuthIdentity, InvalidPattern, PackageName, Pattern, Principal, Right, UplinkName},
};

/// The rules in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<(Pattern, PackageRule)>,
}

impl Rules {
    /// Compiles all patterns.
    pub fn compile(config: &PackagesConfig) -> Result<Self, InvalidPattern> {
        let rules = config
            .rules
            .iter()
            .map(|rule| Ok((Pattern::compile(&rule.pattern)?, rule.clone())))
            .collect::<Result<_, InvalidPattern>>()?;
        Ok(Self { rules })
    }

    /// The rule for `name`; `None`: nobody may do anything with it.
    pub fn rule_for(&self, name: &PackageName) -> Option<&PackageRule> {
        let (_, rule) = self.rules.get(self.number_of(name)?)?;
        Some(rule)
    }

    /// Which of the rules is the one for `name`.
    pub fn number_of(&self, name: &PackageName) -> Option<usize> {
        self.rules
            .iter()
            .position(|(pattern, _)| pattern.matches(name.as_str()))
    }

    /// Rule by rule, whether `identity` may read what it is for.
    pub fn readable(&self, identity: Option<&AuthIdentity>) -> Vec<bool> {
        let rules = self.rules.iter();
        rules
            .map(|(_, rule)| rule.access.iter().any(|may| may.covers(identity)))
            .collect()
    }

    /// Whether `identity` has a right to `name`.
    pub fn allow(&self, identity: Option<&AuthIdentity>, right: Right, name: &PackageName) -> bool {
        let Some(rule) = self.rule_for(name) else {
            return false;
        };
        let principals = match right {
            Right::Access => &rule.access,
            Right::Publish => &rule.publish,
            Right::Unpublish => &rule.unpublish,
        };
        principals
            .iter()
            .any(|principal| principal.covers(identity))
    }

    /// The uplinks to ask for `name`, in this order.
    pub fn proxies_of(&self, name: &PackageName) -> &[UplinkName] {
        self.rule_for(name).map_or(&[], |rule| &rule.proxy)
    }

    /// Whether a rule overrules the origin of the hosted package `name`.
    pub fn merge_of(&self, name: &PackageName) -> Option<bool> {
        self.rule_for(name)?.merge
    }

    /// The users and groups that rules name, each once.
    pub fn named_principals(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .rules
            .iter()
            .flat_map(|(_, rule)| [&rule.access, &rule.publish, &rule.unpublish])
            .flatten()
            .filter_map(|principal| match principal {
                Principal::Named(name) => Some(name.as_str()),
                Principal::All | Principal::Anonymous | Principal::Authenticated => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, access: &str, publish: &str) -> PackageRule {
        let principals = |text: &str| text.split_whitespace().map(Principal::parse).collect();
        PackageRule {
            pattern: pattern.to_owned(),
            access: principals(access),
            publish: principals(publish),
            unpublish: principals(publish),
            proxy: Vec::new(),
            merge: None,
            storage: None,
        }
    }

    fn rules() -> Rules {
        Rules::compile(&PackagesConfig {
            rules: vec![
                rule("@acme/secret-*", "alice team", "alice"),
                rule("@acme/*", "$authenticated", "team"),
                rule("open-*", "$all", "$anonymous"),
                rule("closed", "", ""),
            ],
        })
        .unwrap()
    }

    #[track_caller]
    fn check(user: Option<(&str, &[&str])>, right: Right, name: &str, expected: bool) {
        let identity = user.map(|(username, groups)| AuthIdentity {
            username: Some(username.to_owned()),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        });
        let (rules, name) = (rules(), name.parse().unwrap());
        let allowed = rules.allow(identity.as_ref(), right, &name);
        assert_eq!(allowed, expected, "{user:?} {right:?} {name}");
        if right == Right::Access {
            let readable = rules.readable(identity.as_ref());
            let number = rules.number_of(&name);
            let is_readable = number.is_some_and(|number| readable[number]);
            assert_eq!(is_readable, expected, "{user:?} {name}");
        }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        check(Some(("alice", &[])), Right::Access, "@acme/secret-x", true);
        check(
            Some(("bob", &["team"])),
            Right::Access,
            "@acme/secret-x",
            true,
        );
        check(
            Some(("bob", &["team"])),
            Right::Publish,
            "@acme/secret-x",
            false,
        );
        check(Some(("carol", &[])), Right::Access, "@acme/secret-x", false);
        check(Some(("carol", &[])), Right::Access, "@acme/app", true);
        check(None, Right::Access, "@acme/app", false);
        check(Some(("bob", &["team"])), Right::Publish, "@acme/app", true);
        check(None, Right::Publish, "open-x", true);
        check(Some(("alice", &[])), Right::Publish, "open-x", false);
        check(None, Right::Access, "open-x", true);
    }

    #[test]
    fn no_rule_or_an_empty_one_means_nobody() {
        check(Some(("alice", &["team"])), Right::Access, "closed", false);
        check(
            Some(("alice", &["team"])),
            Right::Access,
            "elsewhere",
            false,
        );
    }
}
