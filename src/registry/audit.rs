//! `npm audit`: asked upstream, without the names that only exist here.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::Registry;
use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName, UplinkName},
    uplink::Uplink,
};

const BULK_PATH: &str = "-/npm/v1/security/advisories/bulk";

/// An audit of the form that npm had up to version 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeAudit {
    /// `npm install` asks for numbers.
    Quick,
    /// `npm audit` asks for all.
    Full,
}

impl TreeAudit {
    fn path(self) -> &'static str {
        match self {
            Self::Quick => "-/npm/v1/security/audits/quick",
            Self::Full => "-/npm/v1/security/audits",
        }
    }
}

impl Registry {
    /// The advisories for the `versions` of packages by name, as upstream knows them.
    #[tracing::instrument(name = "registry.advisories", skip_all)]
    pub async fn advisories(
        &self,
        caller: &Caller,
        versions: BTreeMap<String, Value>,
    ) -> Result<Map<String, Value>, RegistryError> {
        let mut questions: IndexMap<UplinkName, Map<String, Value>> = IndexMap::new();
        for (name, versions) in versions {
            if let Some(uplink) = self.auditor_of(caller, &name).await? {
                let question = questions.entry(uplink.name().clone()).or_default();
                question.insert(name, versions);
            }
        }
        let mut advisories = Map::new();
        for (uplink, question) in questions {
            let Some(uplink) = self.documents.uplinks.get(&uplink) else {
                continue;
            };
            let body = Bytes::from(Value::Object(question).to_string());
            let answer = uplink.ask(BULK_PATH, &body).await?;
            let answer = answer.ok_or_else(|| no_audits(uplink))?;
            advisories.extend(parsed(uplink, &answer)?);
        }
        Ok(advisories)
    }

    /// What upstream says of a tree of dependencies, in the older form.
    #[tracing::instrument(name = "registry.audit", skip_all)]
    pub async fn audit(
        &self,
        caller: &Caller,
        kind: TreeAudit,
        mut tree: Map<String, Value>,
    ) -> Result<Map<String, Value>, RegistryError> {
        let Some(uplink) = self.documents.uplinks.iter().next().cloned() else {
            return Ok(nothing_found());
        };
        let mut names = Vec::new();
        collect_names(&tree, &mut names);
        let mut public: IndexMap<String, bool> = IndexMap::new();
        for name in names {
            if !public.contains_key(&name) {
                let auditor = self.auditor_of(caller, &name).await?;
                let is_public = auditor.is_some_and(|auditor| auditor.name() == uplink.name());
                public.insert(name, is_public);
            }
        }
        strip(&mut tree, &public);
        let has_dependencies = tree
            .get("dependencies")
            .and_then(Value::as_object)
            .is_some_and(|dependencies| !dependencies.is_empty());
        if !has_dependencies {
            return Ok(nothing_found());
        }
        // The project's own name is nobody's business.
        tree.insert("name".to_owned(), "project".into());
        tree.insert("version".to_owned(), "0.0.0".into());
        let body = Bytes::from(Value::Object(tree).to_string());
        let answer = uplink.ask(kind.path(), &body).await?;
        let answer = answer.ok_or_else(|| no_audits(&uplink))?;
        parsed(&uplink, &answer)
    }

    /// The uplink to ask about `name`; none for a name that only exists here, or that the caller
    /// may not know.
    async fn auditor_of(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<Arc<Uplink>>, RegistryError> {
        let Ok(name) = name.parse::<PackageName>() else {
            return Ok(None);
        };
        if !self.may(caller, Action::Access, &name).await? {
            return Ok(None);
        }
        if !self.documents.has_upstream(&name).await? {
            return Ok(None);
        }
        let mut uplinks = self.policy.proxies_of(&name).iter();
        Ok(uplinks.find_map(|uplink| self.documents.uplinks.get(uplink).cloned()))
    }
}

fn no_audits(uplink: &Uplink) -> RegistryError {
    RegistryError::not_found(format!(
        "the uplink {} has no audits; RUSTACCIO_AUDIT_ENABLED=false turns them off here",
        uplink.name()
    ))
}

fn parsed(uplink: &Uplink, answer: &Bytes) -> Result<Map<String, Value>, RegistryError> {
    serde_json::from_slice(answer).map_err(|error| RegistryError::UpstreamBadGateway {
        message: format!("the audit of the uplink {} cannot be read", uplink.name()),
        source: error.into(),
    })
}

/// The older form of "nothing found".
fn nothing_found() -> Map<String, Value> {
    let found = json!({
        "actions": [],
        "advisories": {},
        "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
            "dependencies": 0,
            "devDependencies": 0,
            "optionalDependencies": 0,
            "totalDependencies": 0,
        },
    });
    match found {
        Value::Object(found) => found,
        _ => Map::new(),
    }
}

/// The names in `requires` and `dependencies`, at any depth.
fn collect_names(node: &Map<String, Value>, names: &mut Vec<String>) {
    for key in ["requires", "dependencies"] {
        let Some(Value::Object(members)) = node.get(key) else {
            continue;
        };
        for (name, member) in members {
            names.push(name.clone());
            if let Value::Object(member) = member {
                collect_names(member, names);
            }
        }
    }
}

/// Takes the names that are not public out of `requires` and `dependencies`, at any depth.
fn strip(node: &mut Map<String, Value>, public: &IndexMap<String, bool>) {
    for key in ["requires", "dependencies"] {
        let Some(Value::Object(members)) = node.get_mut(key) else {
            continue;
        };
        members.retain(|name, _| public.get(name) == Some(&true));
        for member in members.values_mut() {
            if let Value::Object(member) = member {
                strip(member, public);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_taken_out_at_any_depth() {
        let Value::Object(mut tree) = json!({
            "requires": { "a": "^1.0.0", "@acme/x": "1.0.0" },
            "dependencies": {
                "a": { "version": "1.0.0", "requires": { "@acme/x": "1", "b": "1" } },
                "@acme/x": { "version": "1.0.0", "dependencies": { "b": { "version": "1.0.0" } } },
            },
        }) else {
            panic!("an object");
        };
        let mut names = Vec::new();
        collect_names(&tree, &mut names);
        assert_eq!(names.iter().filter(|name| *name == "@acme/x").count(), 3);
        let public = [("a", true), ("b", true), ("@acme/x", false)];
        let public = public.map(|(name, is_public)| (name.to_owned(), is_public));
        strip(&mut tree, &IndexMap::from(public));
        let text = Value::Object(tree).to_string();
        assert_eq!(
            text,
            r#"{"dependencies":{"a":{"requires":{"b":"1"},"version":"1.0.0"}},"requires":{"a":"^1.0.0"}}"#
        );
    }
}
