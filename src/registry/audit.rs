//! `npm audit`: asked upstream, without the names that only exist here.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    vec,
};

use bytes::Bytes;
use futures_util::future::join_all;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    Registry,
    audit_tree::{Node, is_version, merge},
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName, UplinkName},
    uplink::{Uplink, UplinkError},
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

/// A name that upstream is asked about, and those who have not been asked yet.
struct Asked {
    name: String,
    uplinks: vec::IntoIter<Arc<Uplink>>,
}

/// What an uplink is asked, and how its answer is read.
struct Question<A> {
    body: Bytes,
    read: A,
}

impl Registry {
    /// The advisories for the `versions` of packages by name, as upstream knows them.
    #[tracing::instrument(name = "registry.advisories", skip_all)]
    pub async fn advisories(
        &self,
        caller: &Caller,
        versions: BTreeMap<String, Vec<String>>,
    ) -> Result<Map<String, Value>, RegistryError> {
        // Other texts name addresses and folders.
        let is_version = |text: &String| is_version(text);
        let versions: BTreeMap<String, Vec<String>> = versions
            .into_iter()
            .map(|(name, all)| (name, all.into_iter().filter(is_version).collect::<Vec<_>>()))
            .filter(|(_, versions)| !versions.is_empty())
            .collect();
        let asked = self.asked(caller, versions.keys()).await?;
        let answers = ask_in_turn(BULK_PATH, asked, |names| {
            let question: BTreeMap<&str, &Vec<String>> = names
                .iter()
                .filter_map(|name| Some((*name, versions.get(*name)?)))
                .collect();
            let names: HashSet<String> = names.iter().map(ToString::to_string).collect();
            Some(Question {
                body: serde_json::to_vec(&question).ok()?.into(),
                read: move |answer: &mut Map<String, Value>| {
                    // Nobody has a say about other names.
                    answer.retain(|name, _| names.contains(name));
                },
            })
        });
        Ok(answers.await?.into_iter().flatten().collect())
    }

    /// What upstream says of a tree of dependencies, in the older form.
    #[tracing::instrument(name = "registry.audit", skip_all)]
    pub async fn audit(
        &self,
        caller: &Caller,
        kind: TreeAudit,
        tree: Bytes,
    ) -> Result<Map<String, Value>, RegistryError> {
        // Whole trees can be large.
        let read = move || -> Result<(Node, BTreeSet<String>), serde_json::Error> {
            let tree = Node::parse(&tree)?;
            let names = tree.names();
            Ok((tree, names))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (tree, names) = read.map_err(RegistryError::internal)?.map_err(|error| {
            RegistryError::bad_request(format!("the tree of dependencies is not valid: {error}"))
        })?;
        let asked = self.asked(caller, names.iter()).await?;
        let answers = ask_in_turn(kind.path(), asked, |names| {
            let (shown, hidden) = tree.about(names)?;
            Some(Question {
                body: shown.to_string().into(),
                read: move |answer: &mut Map<String, Value>| {
                    answer.values_mut().for_each(|part| hidden.reveal_in(part));
                },
            })
        });
        Ok(merge(answers.await?).unwrap_or_else(|| nothing_found(kind)))
    }

    /// Those of `names` that upstream may be asked about, each with the uplinks of its rule: not
    /// what only exists here, nor what the caller may not know.
    async fn asked(
        &self,
        caller: &Caller,
        names: impl Iterator<Item = &String>,
    ) -> Result<Vec<Asked>, RegistryError> {
        let mut asked = Vec::new();
        for text in names {
            let Ok(name) = text.parse::<PackageName>() else {
                continue;
            };
            let is_public = self.may(caller, Action::Access, &name).await?
                && self.documents.has_upstream(&name).await?;
            if !is_public {
                continue;
            }
            let uplinks = self.policy.proxies_of(&name).iter();
            let uplinks: Vec<_> = uplinks
                .filter_map(|uplink| self.documents.uplinks.get(uplink).cloned())
                .collect();
            asked.push(Asked {
                name: text.clone(),
                uplinks: uplinks.into_iter(),
            });
        }
        Ok(asked)
    }
}

/// Asks the uplinks of each name in their order, until one has answered: those who have no audits
/// are passed over, and so are those who fail, unless that is all of them.
async fn ask_in_turn<A>(
    path: &str,
    mut asked: Vec<Asked>,
    question: impl Fn(&HashSet<&str>) -> Option<Question<A>>,
) -> Result<Vec<Map<String, Value>>, RegistryError>
where
    A: FnOnce(&mut Map<String, Value>),
{
    let mut answers = Vec::new();
    let mut failure = None;
    while !asked.is_empty() {
        let mut turns: IndexMap<UplinkName, (Arc<Uplink>, Vec<Asked>)> = IndexMap::new();
        for mut one in asked.drain(..) {
            if let Some(uplink) = one.uplinks.next() {
                let turn = turns.entry(uplink.name().clone());
                turn.or_insert_with(|| (uplink, Vec::new())).1.push(one);
            }
        }
        let asking = turns.into_values().filter_map(|(uplink, turn)| {
            let names: HashSet<&str> = turn.iter().map(|one| one.name.as_str()).collect();
            let Question { body, read } = question(&names)?;
            Some(async move {
                let answer = uplink.ask(path, &body).await;
                (uplink, turn, read, answer.and_then(parsed))
            })
        });
        for (uplink, turn, read, answer) in join_all(asking).await {
            match answer {
                Ok(Some(mut answer)) => {
                    read(&mut answer);
                    answers.push(answer);
                }
                Ok(None) => asked.extend(turn),
                Err(error) => {
                    tracing::warn!(uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "audited without this uplink");
                    failure = Some(error);
                    asked.extend(turn);
                }
            }
        }
    }
    match failure {
        Some(error) if answers.is_empty() => Err(error.into()),
        _ => Ok(answers),
    }
}

fn parsed(answer: Option<Bytes>) -> Result<Option<Map<String, Value>>, UplinkError> {
    let parsed = answer.map(|answer| serde_json::from_slice(&answer));
    let unusable = |_| UplinkError::BadBody("it is no report of an audit");
    parsed.transpose().map_err(unusable)
}

/// The older form of "nothing found"; with the fields of the one after it.
fn nothing_found(kind: TreeAudit) -> Map<String, Value> {
    let found = json!({
        "auditReportVersion": 2,
        "actions": [],
        "advisories": {},
        "vulnerabilities": {},
        "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
            "dependencies": 0,
            "devDependencies": 0,
            "optionalDependencies": 0,
            "totalDependencies": 0,
        },
    });
    let mut found = match found {
        Value::Object(found) => found,
        _ => Map::new(),
    };
    if kind == TreeAudit::Full {
        found.insert("runId".to_owned(), "0".into());
    }
    found
}
