//! Signatures of the registry: which keys check them, and who signs what nobody else has signed.
//!
//! Clients ask for all keys once. They refuse everything where a signature names a key that is not
//! among them; they complain of what has no signature; and they check nothing where the answer is
//! 404. So:
//!
//! - The keys are ours and those of all uplinks, which are kept for as long as an uplink does not
//!   take them back.
//! - An uplink without keys (404, an empty list, or a refusal) usually has no signatures either:
//!   we sign its versions.
//! - Some, mirrors above all, pass on signatures of a registry whose keys they do not have. Those
//!   stay as they are, because other tools have the keys built in. But nobody could be sent all
//!   keys, and so nobody is sent any.
//! - An uplink whose keys cannot be had now, and never could, is left out unless it has passed on
//!   signatures that the other keys do not fit; then its failure is the answer.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Registry,
    documents::Document,
    packument::{Dist, Signing},
    side_documents::{Patience, SideDocument},
};
use crate::{
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock},
    models::UplinkName,
    storage::{CachedDocument, Freshness, StorageError, Store},
    uplink::{Uplink, UplinkError},
};

/// Where registries publish their keys.
const KEYS_PATH: &str = "-/npm/v1/keys";
/// What is kept on disk of the signatures that an uplink passes on; no address of an uplink.
const SIGNERS_PATH: &str = "signers";
/// A registry has two or three keys in all its life. An uplink may lie.
const MAX_KEYIDS: usize = 32;
const MAX_KEYID_LENGTH: usize = 200;

/// The keys that an uplink publishes.
#[derive(Clone, Debug)]
pub(super) struct Keyring(Arc<[Value]>);

#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(borrow, default)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeyId {
    keyid: String,
}

impl SideDocument for Keyring {
    fn parse(body: &Bytes) -> Result<Self, UplinkError> {
        let keys: Keys<'_> = serde_json::from_slice(body)
            .map_err(|_| UplinkError::BadBody("it is no list of keys"))?;
        let usable = keys.keys.into_iter().filter_map(|raw| {
            serde_json::from_str::<KeyId>(raw.get())
                .ok()
                .filter(|key| !key.keyid.is_empty())?;
            serde_json::from_str(raw.get()).ok()
        });
        Ok(Self(usable.collect()))
    }

    fn is_refusal(error: &UplinkError) -> bool {
        matches!(error, UplinkError::BadStatus(status @ 400..=499) if *status != 408)
    }
}

/// How the versions of a document are signed.
#[derive(Debug, Default)]
pub(super) struct Signed {
    /// Whether one is not.
    pub(super) has_unsigned: bool,
    /// The keys that the others were signed with.
    keyids: BTreeSet<String>,
}

impl Signed {
    pub(super) fn count(&mut self, dist: &Dist) {
        self.has_unsigned |= !dist.is_signed;
        for keyid in &dist.keyids {
            if keyid.len() <= MAX_KEYID_LENGTH && !self.keyids.contains(keyid) {
                self.keyids.insert(keyid.clone());
            }
        }
    }
}

/// How the versions of a document are signed that come from an uplink.
#[derive(Debug)]
pub(super) struct UpstreamSignatures {
    uplink: UplinkName,
    signed: Signed,
    is_noted: AtomicBool,
}

impl UpstreamSignatures {
    pub(super) fn new(uplink: &UplinkName, signed: Signed) -> Self {
        Self {
            uplink: uplink.clone(),
            is_noted: AtomicBool::new(signed.keyids.is_empty()),
            signed,
        }
    }
}

/// The keys by which uplinks' versions are signed, as far as they passed through here. Kept with
/// the cache: clients ask for keys before they ask for packages.
#[derive(Debug)]
pub(super) struct Signers {
    store: Store,
    clock: SharedClock,
    lifecycle: Lifecycle,
    seen: Mutex<HashMap<UplinkName, BTreeSet<String>>>,
    /// Held while what is on disk is changed.
    writing: tokio::sync::Mutex<()>,
}

impl Signers {
    pub(super) fn new(store: Store, clock: SharedClock, lifecycle: Lifecycle) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            lifecycle,
            seen: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        })
    }

    fn note(self: &Arc<Self>, signatures: &UpstreamSignatures) {
        if signatures.is_noted.swap(true, Ordering::Relaxed) {
            return;
        }
        let uplink = signatures.uplink.clone();
        let mut seen = self.seen.lock();
        let known = seen.entry(uplink.clone()).or_default();
        let before = known.len();
        for keyid in &signatures.signed.keyids {
            if known.len() < MAX_KEYIDS {
                known.insert(keyid.clone());
            }
        }
        if known.len() > before {
            let signers = Arc::clone(self);
            self.lifecycle.spawn(async move {
                if let Err(error) = signers.keep(&uplink).await {
                    tracing::warn!(uplink.name = %uplink, error = &error as &dyn std::error::Error, "it will not be remembered who signs");
                }
            });
        }
    }

    /// The keys that the versions of `uplink` were signed with that were seen.
    async fn of(&self, uplink: &UplinkName) -> Result<BTreeSet<String>, StorageError> {
        let kept = self.store.cache().document(uplink, SIGNERS_PATH).await?;
        let kept = kept.and_then(|kept| serde_json::from_slice(&kept.body).ok());
        let mut keyids: BTreeSet<String> = kept.unwrap_or_default();
        keyids.extend(self.seen.lock().get(uplink).into_iter().flatten().cloned());
        Ok(keyids)
    }

    async fn keep(&self, uplink: &UplinkName) -> Result<(), StorageError> {
        let _alone = self.writing.lock().await;
        let keyids: Vec<String> = self
            .of(uplink)
            .await?
            .into_iter()
            .take(MAX_KEYIDS)
            .collect();
        let body = Value::from(keyids).to_string();
        let freshness = Freshness {
            fetched_at: self.clock.now(),
            etag: None,
            last_modified: None,
        };
        let document = CachedDocument::new(body.into(), freshness);
        let cache = self.store.cache();
        cache.put_document(uplink, SIGNERS_PATH, document).await
    }
}

impl Registry {
    /// All keys that signatures of packages here are checked with: ours, and those of the
    /// uplinks. 404 where nothing is signed here, or where the keys of signatures that an uplink
    /// passes on cannot be had: a part of the keys would make clients refuse the rest.
    #[tracing::instrument(name = "registry.signing_keys", skip_all)]
    pub async fn signing_keys(&self) -> Result<Vec<Value>, RegistryError> {
        let Some(signing_keys) = &self.signing_keys else {
            return Err(RegistryError::not_found("this registry signs nothing"));
        };
        let ours = signing_keys.public().iter().map(serde_json::to_value);
        let mut keys: Vec<Value> = ours
            .collect::<Result<_, _>>()
            .map_err(RegistryError::internal)?;
        let asked = self.documents.uplinks.iter().map(async |uplink| {
            let keyring = self.keyrings.get(uplink, KEYS_PATH, Patience::Enough);
            (uplink, keyring.await)
        });
        let mut without = Vec::new();
        for (uplink, keyring) in join_all(asked).await {
            match keyring {
                Ok(Some(Keyring(ring))) if !ring.is_empty() => {
                    for key in ring.iter() {
                        let is_known = keys.iter().any(|known| known["keyid"] == key["keyid"]);
                        if !is_known {
                            keys.push(key.clone());
                        }
                    }
                }
                Ok(_) => without.push((uplink, None)),
                Err(error) => without.push((uplink, Some(error))),
            }
        }
        for (uplink, failure) in without {
            let seen = self.signers.of(uplink.name()).await?;
            let foreign = seen
                .into_iter()
                .find(|keyid| keys.iter().all(|key| key["keyid"] != keyid.as_str()));
            match (foreign, failure) {
                (None, _) => {}
                (Some(_), Some(failure)) => return Err(failure),
                (Some(keyid), None) => return Err(without_key(uplink, &keyid)),
            }
        }
        Ok(keys)
    }

    /// What is signed here of `document`. What an uplink that has keys did not sign stays so:
    /// clients shall hear of it. Whoever reads waits no longer than a moment to learn whether it
    /// has.
    pub(super) async fn signing(&self, document: &Document) -> Option<Signing> {
        let keys = self.signing_keys.as_ref()?;
        let signs_upstream = match &document.upstream_signatures {
            None => false,
            Some(signatures) => {
                self.signers.note(signatures);
                signatures.signed.has_unsigned && self.is_keyless(&signatures.uplink).await
            }
        };
        let is_needed = signs_upstream || document.has_unsigned_of_ours;
        is_needed.then(|| Signing {
            keys: Arc::clone(keys),
            signs_upstream,
        })
    }

    async fn is_keyless(&self, uplink: &UplinkName) -> bool {
        let Some(uplink) = self.documents.uplinks.get(uplink) else {
            return false;
        };
        let keyring = self.keyrings.get(uplink, KEYS_PATH, Patience::Moment);
        match keyring.await {
            Ok(keyring) => keyring.is_none_or(|Keyring(keys)| keys.is_empty()),
            Err(_) => false,
        }
    }
}

fn without_key(uplink: &Uplink, keyid: &str) -> RegistryError {
    tracing::warn!(uplink.name = %uplink.name(), keyid, "no keys are published: the uplink passes on signatures whose key it does not have");
    RegistryError::not_found(format!(
        "the uplink {} passes on signatures whose key it does not have; a part of the keys would \
         be worse than none",
        uplink.name()
    ))
}
