//! What the uplinks find, which follows in searches on what is hosted.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Registry, flight::Flights};
use crate::{
    error::RegistryError,
    lifecycle::Lifecycle,
    models::{Caller, PackageName, UplinkName},
    uplink::{Uplink, UplinkError},
};

/// How long a search waits for an uplink.
const PATIENCE: Duration = Duration::from_secs(3);
/// Hits that an uplink is asked for at once, and of whom there may be more than one page.
const CHUNK: usize = 250;
/// How far searches reach into what an uplink finds.
const REACH: usize = 1000;
/// How long what an uplink found is believed: somebody turns pages.
const KEPT_FOR: Duration = Duration::from_secs(60);
const MAX_MEMORY: u64 = 16 * 1024 * 1024;

/// An uplink, and what it is asked.
type Key = (UplinkName, String);

/// What uplinks find, each asked once for the same.
#[derive(Debug)]
pub(super) struct Findings {
    /// What they found lately.
    kept: Cache<Key, Bytes>,
    flights: Flights<Key, Result<Option<Bytes>, UplinkError>>,
}

impl Findings {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            kept: Cache::builder()
                .max_capacity(MAX_MEMORY)
                .weigher(|key: &Key, answer: &Bytes| {
                    u32::try_from(key.1.len() + answer.len() + 128).unwrap_or(u32::MAX)
                })
                .time_to_live(KEPT_FOR)
                .build(),
            flights: Flights::new(lifecycle),
        }
    }

    /// What `uplink` answers to `query`; `None` if it has no search, or takes too long. Who stops
    /// waiting does not stop the question, so that what comes of it counts for the next one.
    async fn ask(&self, uplink: &Arc<Uplink>, query: String) -> Result<Option<Bytes>, UplinkError> {
        let key = (uplink.name().clone(), query);
        if let Some(answer) = self.kept.get(&key) {
            return Ok(Some(answer));
        }
        let is_circle =
            |answer: &Result<_, UplinkError>| answer.as_ref().is_err_and(UplinkError::is_circle);
        let asking = self.flights.ask(key.clone(), is_circle, || {
            let (uplink, key, kept) = (Arc::clone(uplink), key.clone(), self.kept.clone());
            async move {
                let answer = uplink.document(&format!("-/v1/search?{}", key.1)).await?;
                if let Some(answer) = &answer {
                    kept.insert(key, answer.clone());
                }
                Ok(answer)
            }
        });
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer.unwrap_or(Ok(None)),
            Err(_) => {
                tracing::debug!(uplink.name = %uplink.name(), "searched without this uplink, which takes too long");
                Ok(None)
            }
        }
    }
}

/// What an uplink found.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    objects: Vec<Value>,
    total: usize,
}

/// Hits that a caller may see, from the first on.
#[derive(Default)]
pub(super) struct UpstreamHits {
    pub(super) objects: Vec<Value>,
    /// How many there are within reach, as far as is known.
    pub(super) total: usize,
}

impl Registry {
    /// The first `wanted` hits of the uplinks for `text`, or a few more, that `caller` may see.
    /// Uplinks that fail are left out.
    pub(super) async fn search_upstream(
        &self,
        caller: &Caller,
        text: &str,
        wanted: usize,
    ) -> Result<UpstreamHits, RegistryError> {
        let uplinks = self.documents.uplinks.iter();
        let searches = uplinks.map(|uplink| self.search_uplink(caller, uplink, text, wanted));
        let mut names = HashSet::new();
        let mut all = UpstreamHits::default();
        for hits in join_all(searches).await {
            let hits = hits?;
            all.total = all.total.saturating_add(hits.total);
            for object in hits.objects {
                // Several uplinks may have it; the first one is asked for it.
                if names.insert(object["package"]["name"].to_string()) {
                    all.objects.push(object);
                } else {
                    all.total = all.total.saturating_sub(1);
                }
            }
        }
        Ok(all)
    }

    async fn search_uplink(
        &self,
        caller: &Caller,
        uplink: &Arc<Uplink>,
        text: &str,
        wanted: usize,
    ) -> Result<UpstreamHits, RegistryError> {
        let mut hits = UpstreamHits::default();
        let (mut seen, mut hidden) = (HashSet::new(), 0_usize);
        loop {
            let from = seen.len() + hidden;
            let found = match self.found_from(uplink, text, from).await {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "searched without this uplink");
                    break;
                }
            };
            let count = found.objects.len();
            hits.total = found.total.clamp(from + count, REACH.max(from + count));
            let before = seen.len();
            let mut fitting = Vec::new();
            for object in found.objects {
                let name = object["package"]["name"].as_str().map(str::to_owned);
                let is_new = name.is_some_and(|name| !seen.contains(&name) && seen.insert(name));
                if !is_new {
                    hidden += 1;
                } else if let Some(name) = self.fits(uplink, &object).await? {
                    fitting.push((name, object));
                }
            }
            self.push_readable(caller, fitting, wanted, &mut hits.objects)
                .await?;
            let is_stuck = seen.len() == before;
            if is_stuck || from + count >= hits.total || hits.objects.len() >= wanted {
                break;
            }
        }
        let asked = seen.len() + hidden;
        hits.total = hits.total.saturating_sub(asked - hits.objects.len());
        Ok(hits)
    }

    /// What `uplink` finds from hit number `from` on; `None` if it has no search.
    async fn found_from(
        &self,
        uplink: &Arc<Uplink>,
        text: &str,
        from: usize,
    ) -> Result<Option<Found>, UplinkError> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("text", text)
            .append_pair("size", &CHUNK.to_string())
            .append_pair("from", &from.to_string())
            .finish();
        let Some(answer) = self.findings.ask(uplink, query).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&answer)
            .map(Some)
            .map_err(|_| UplinkError::BadBody("it is no list of hits"))
    }

    /// Adds those hits that `caller` may read. Where others decide about that, no more of them are
    /// asked than it takes for `wanted` and one that tells that there are more.
    async fn push_readable(
        &self,
        caller: &Caller,
        fitting: Vec<(PackageName, Value)>,
        wanted: usize,
        objects: &mut Vec<Value>,
    ) -> Result<(), RegistryError> {
        let is_decided_here = self.policy.readable(caller).is_some();
        let stride = self.policy.stride();
        let mut fitting = fitting.into_iter();
        loop {
            let next: Vec<(PackageName, Value)> = fitting.by_ref().take(stride).collect();
            let is_enough = !is_decided_here && objects.len() > wanted;
            if next.is_empty() || is_enough {
                return Ok(());
            }
            let names: Vec<&PackageName> = next.iter().map(|(name, _)| name).collect();
            let readable = self.may_read_each(caller, &names).await?;
            for ((_, mut object), is_readable) in next.into_iter().zip(readable) {
                if is_readable {
                    make_readable(&mut object);
                    objects.push(object);
                }
            }
        }
    }

    /// The name of a hit, if it is what whoever asks for that name gets from `uplink`.
    async fn fits(
        &self,
        uplink: &Uplink,
        object: &Value,
    ) -> Result<Option<PackageName>, RegistryError> {
        let name = object["package"]["name"].as_str();
        let Some(name) = name.and_then(|name| name.parse::<PackageName>().ok()) else {
            return Ok(None);
        };
        let is_proxied = self
            .policy
            .proxies_of(&name)
            .iter()
            .filter_map(|name| self.documents.uplinks.get(name))
            .any(|proxied| proxied.name() == uplink.name());
        // What is hosted was found here, or does not fit.
        let fits =
            is_proxied && !self.index.contains(&name) && self.documents.has_upstream(&name).await?;
        Ok(fits.then_some(name))
    }
}

/// Gives a hit what clients rely on: npm ends in the middle of its list otherwise.
fn make_readable(object: &mut Value) {
    let Some(package) = object.get_mut("package").and_then(Value::as_object_mut) else {
        return;
    };
    let people = match package.remove("maintainers") {
        Some(Value::Array(people)) => people,
        _ => Vec::new(),
    };
    let people = people.into_iter().filter_map(|mut person| {
        let name = ["username", "name"]
            .iter()
            .find_map(|key| person[*key].as_str());
        let name = name.or_else(|| person.as_str())?.to_owned();
        match person.as_object_mut() {
            Some(person) => {
                person.insert("username".to_owned(), name.into());
            }
            None => person = json!({ "username": name }),
        }
        Some(person)
    });
    package.insert("maintainers".to_owned(), people.collect());
    if let Some(Value::Array(keywords)) = package.get_mut("keywords") {
        keywords.retain(Value::is_string);
    }
    package.retain(|key, value| match key.as_str() {
        "description" | "version" => value.is_string(),
        "keywords" => value.is_string() || value.is_array(),
        "publisher" => value["username"].is_string(),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_have_what_clients_rely_on() {
        let mut hit = json!({ "package": { "name": "a", "description": null, "keywords": [1, "k"], "publisher": {}, "x": 1 } });
        make_readable(&mut hit);
        assert_eq!(
            hit,
            json!({ "package": { "name": "a", "keywords": ["k"], "maintainers": [], "x": 1 } })
        );
        let people =
            json!(["a <a@x.example>", { "name": "b" }, { "username": "c", "email": "e" }, 7, {}]);
        let mut hit = json!({ "package": { "name": "a", "maintainers": people } });
        make_readable(&mut hit);
        assert_eq!(
            hit["package"]["maintainers"],
            json!([{ "username": "a <a@x.example>" }, { "name": "b", "username": "b" }, { "username": "c", "email": "e" }])
        );
    }
}
