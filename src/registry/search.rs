//! Searching what is hosted; the index follows every write.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{
    Registry,
    packument::{Hosted, Packument},
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName, http_date},
    search::{Found, Query, SearchEntry, SearchHit, Window},
};

/// How long a search waits for the index of a bucket; then it answers from what there is of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// One page of what a query found, in the shape of `/-/v1/search`.
#[derive(Clone, Debug, Serialize)]
pub struct SearchPage {
    /// The hits on this page: what is hosted first, then what the uplinks found.
    pub objects: Vec<Value>,
    /// All hits that the caller may see.
    pub total: usize,
    /// When it was searched, as an HTTP date.
    pub time: String,
}

impl Registry {
    /// What `text` finds among the packages that `caller` may read, here and upstream.
    #[tracing::instrument(name = "registry.search", skip_all)]
    pub async fn search(
        &self,
        caller: &Caller,
        text: &str,
        window: Window,
    ) -> Result<SearchPage, RegistryError> {
        self.indexed().await;
        let found = self.search_here(caller, text, window).await?;
        let mut objects: Vec<Value> = found.hits.iter().map(SearchHit::to_json).collect();
        let mut total = found.total;
        if !text.is_empty() && !self.searches_are_local {
            let from = window.from.saturating_sub(total);
            let size = window.size.saturating_sub(objects.len());
            let wanted = from.saturating_add(size);
            let upstream = self.search_upstream(caller, text, wanted).await?;
            total = total.saturating_add(upstream.total);
            objects.extend(upstream.objects.into_iter().skip(from).take(size));
        }
        let time = http_date(self.clock.now());
        Ok(SearchPage {
            objects,
            total,
            time,
        })
    }

    /// What `text` finds of what was published here that `caller` may read.
    #[tracing::instrument(name = "registry.search_hosted", skip_all)]
    pub async fn search_hosted(
        &self,
        caller: &Caller,
        text: &str,
        window: Window,
    ) -> Result<Found, RegistryError> {
        self.indexed().await;
        self.search_here(caller, text, window).await
    }

    async fn search_here(
        &self,
        caller: &Caller,
        text: &str,
        window: Window,
    ) -> Result<Found, RegistryError> {
        self.find_here(caller, &Query::parse(text), window).await
    }

    /// What `query` finds here that `caller` may read.
    pub(super) async fn find_here(
        &self,
        caller: &Caller,
        query: &Query,
        window: Window,
    ) -> Result<Found, RegistryError> {
        if let Some(readable) = self.policy.readable(caller) {
            return Ok(self.index.search(query, window, |sight, entry| {
                (sight.is_public || is_let_in(caller, entry))
                    && readable.covers(&entry.name, sight.rule)
            }));
        }
        let all = self
            .index
            .search(query, Window::ALL, |_, entry| is_let_in(caller, entry));
        self.first_visible(caller, all.hits, window).await
    }

    /// The hits in the window, where others decide who may read: no more of them are asked about than
    /// it takes to fill it. The total is that of those seen so far, and one more if there is one:
    /// it tells nothing of those that the caller may not see.
    async fn first_visible(
        &self,
        caller: &Caller,
        hits: Vec<SearchHit>,
        window: Window,
    ) -> Result<Found, RegistryError> {
        let wanted = window.from.saturating_add(window.size);
        let mut found = Found::default();
        for hits in hits.chunks(self.policy.stride()) {
            let names: Vec<&PackageName> = hits.iter().map(|hit| &hit.entry.name).collect();
            let readable = self.policy.readable_of(caller, &names).await?;
            for (hit, is_readable) in hits.iter().zip(readable) {
                if !is_readable {
                    continue;
                }
                found.total += 1;
                if found.total > wanted {
                    return Ok(found);
                }
                if found.total > window.from {
                    found.hits.push(hit.clone());
                }
            }
        }
        Ok(found)
    }

    /// The packages that `caller` may read and whose names come after `name`.
    #[tracing::instrument(name = "registry.all", skip_all)]
    pub async fn all(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Vec<Arc<SearchEntry>>, RegistryError> {
        self.indexed().await;
        self.visible_entries(caller, self.index.after(name)).await
    }

    /// Lets searches find what is stored of `name` now.
    pub(super) async fn fill_entry(&self, name: &PackageName) -> Result<(), RegistryError> {
        // A writer between the read and the index would be undone.
        let _alone = self.locks.lock(name).await;
        match self.documents.hosted(name).await? {
            Some(hosted) => self.index_manifest(name, &hosted.manifest),
            None => self.index.remove(name),
        }
        Ok(())
    }

    /// Lets searches find `manifest` as it is now.
    pub(super) fn index_manifest(&self, name: &PackageName, manifest: &Hosted) {
        match entry_of(name, manifest, self.policy.rule_of(name)) {
            Some(entry) => self.index.upsert(entry),
            None => self.index.remove(name),
        }
    }

    pub(super) async fn indexed(&self) {
        self.is_wanted.send_replace(true);
        let mut is_indexed = self.is_indexed.subscribe();
        // The sender lives as long as we do.
        let indexed = is_indexed.wait_for(|is_indexed| *is_indexed);
        if self.store.is_shared() {
            // A bucket may have any number of packages, and others write to it anyway.
            let _ = tokio::time::timeout(PATIENCE, indexed).await;
        } else {
            let _ = indexed.await;
        }
    }
}

/// Whether what the package itself says lets `caller` read it.
pub(super) fn is_let_in(caller: &Caller, entry: &SearchEntry) -> bool {
    let within = caller.within_limits(&entry.name);
    let restrictions = &entry.restrictions;
    restrictions.allow(&within, Action::Access, &entry.owners)
}

/// What the index keeps of a manifest; `None` for one without versions.
fn entry_of(name: &PackageName, manifest: &Hosted, rule: Option<usize>) -> Option<SearchEntry> {
    if manifest.is_gone() {
        return None;
    }
    let packument = manifest.packument();
    let latest = packument.resolve("latest");
    let raw = latest.and_then(|latest| packument.version(latest));
    let version: Value = raw.map_or(Value::Null, json_of);
    let text = |key: &str| version[key].as_str().map(str::to_owned);
    let keywords = version["keywords"].as_array().into_iter().flatten();
    Some(SearchEntry {
        name: name.clone(),
        version: latest.unwrap_or_default().to_owned(),
        description: text("description").unwrap_or_default(),
        keywords: keywords
            .filter_map(|keyword| keyword.as_str().map(str::to_owned))
            .collect(),
        date: latest.and_then(|latest| packument.published(latest)),
        author: version["author"].clone(),
        publisher: publisher(&version),
        maintainers: maintainers(packument),
        license: version["license"].clone(),
        links: links(&version),
        deprecated: text("deprecated").filter(|text| !text.is_empty()),
        owners: packument.maintainers(),
        starred_by: manifest.starred_by(),
        dependencies: dependencies(&version),
        restrictions: manifest.restrictions().clone(),
        rule,
    })
}

/// The names that an install of `version` may install.
fn dependencies(version: &Value) -> Vec<String> {
    let kinds = ["dependencies", "optionalDependencies", "peerDependencies"];
    let all = kinds.iter().filter_map(|kind| version[*kind].as_object());
    let mut names: Vec<String> = all.flat_map(|map| map.keys().cloned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn json_of(raw: &Bytes) -> Value {
    serde_json::from_slice(raw).unwrap_or_default()
}

fn publisher(version: &Value) -> Value {
    match version["_npmUser"].as_object() {
        Some(user) => serde_json::json!({
            "username": user.get("name"),
            "email": user.get("email").cloned().unwrap_or_else(|| "".into()),
        }),
        None => serde_json::json!({}),
    }
}

/// npm reads `username`, older clients `name`.
fn maintainers(packument: &Packument) -> Value {
    let people = packument.maintainers().into_iter();
    people
        .map(|name| serde_json::json!({ "username": name, "name": name, "email": "" }))
        .collect()
}

fn links(version: &Value) -> Vec<(&'static str, String)> {
    let address = |value: &Value| -> Option<String> {
        let text = value.as_str().or_else(|| value["url"].as_str())?;
        let text = text.trim_start_matches("git+").trim_end_matches(".git");
        // A page shows them as links.
        ["http://", "https://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
            .then(|| text.to_owned())
    };
    ["homepage", "repository", "bugs"]
        .into_iter()
        .filter_map(|kind| Some((kind, address(&version[kind])?)))
        .collect()
}
