//! Signatures of the registry: which keys check them, and who signs what nobody else has signed.
//!
//! Clients ask for all keys once. npm gives up where a signature names a key that is not among them
//! (and just so where there are no keys at all); all of them complain of what has no signature as
//! soon as there are keys. So:
//!
//! - The keys are ours and those of all uplinks. An uplink's keys are kept for as long as it does
//!   not say that they are gone: old ones serve while it fails.
//! - An uplink without keys (404, an empty list, or a refusal) usually has no signatures either:
//!   we sign its versions, for those who check: a signature is as large as all else that an install
//!   needs to know of a version, and nothing makes it smaller.
//! - Some, mirrors above all, pass on signatures of a registry whose keys they do not have. Those
//!   stay as they are, because other tools have the keys built in. npm gives up on projects with
//!   such packages, as it does without us; what was published here can be verified all the same.
//! - An uplink whose keys cannot be had now, and never could, is left out, for the same reason;
//!   that answer is not to be kept.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Registry,
    document::Document,
    packument::Signing,
    side_documents::{Patience, SideDocument},
};
use crate::{error::RegistryError, models::UplinkName, uplink::UplinkError};

/// Where registries publish their keys.
const KEYS_PATH: &str = "-/npm/v1/keys";
/// The keys that signatures of packages here are checked with.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    /// The keys, in the shape of `/-/npm/v1/keys`.
    pub keys: Vec<Value>,
    /// Whether those of an uplink may be missing that cannot be asked now.
    pub is_partial: bool,
}

/// How much of a document somebody checks the signatures of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Checked<'a> {
    /// Nothing: an install does not look at them.
    Nothing,
    /// This version.
    Version(&'a str),
    /// All versions.
    Everything,
}

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

impl Registry {
    /// All keys that signatures of packages here are checked with: ours, and those of the
    /// uplinks. 404 where nothing is signed here.
    #[tracing::instrument(name = "registry.signing_keys", skip_all)]
    pub async fn signing_keys(&self) -> Result<PublishedKeys, RegistryError> {
        let Some(signing_keys) = &self.signing_keys else {
            return Err(RegistryError::not_found("this registry signs nothing"));
        };
        let ours = signing_keys.public().iter().map(serde_json::to_value);
        let mut keys: Vec<Value> = ours
            .collect::<Result<_, _>>()
            .map_err(RegistryError::internal)?;
        let asked = self.documents.uplinks.iter().map(|uplink| {
            let keyring = self.keyrings.get(uplink, KEYS_PATH, Patience::Enough);
            async move { (uplink, keyring.await) }
        });
        let mut is_partial = false;
        for (uplink, keyring) in join_all(asked).await {
            match keyring {
                Ok(keyring) => {
                    for key in keyring.iter().flat_map(|Keyring(keys)| keys.iter()) {
                        let is_known = keys.iter().any(|known| known["keyid"] == key["keyid"]);
                        if !is_known {
                            keys.push(key.clone());
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "the keys of this uplink are not published: they were never seen, and cannot be had now");
                    is_partial = true;
                }
            }
        }
        Ok(PublishedKeys { keys, is_partial })
    }

    /// What is signed here of `document` for somebody who checks that much of it. What an uplink
    /// that has keys did not sign stays so: clients shall hear of it. Who checks waits no longer
    /// than a moment to learn whether it has.
    pub(super) async fn signing(
        &self,
        document: &Document,
        checked: Checked<'_>,
    ) -> Option<Signing> {
        let keys = self.signing_keys.as_ref()?;
        let unsigned_from = match checked {
            Checked::Nothing => None,
            Checked::Version(version) => document.unsigned_version_from(version),
            Checked::Everything => document.unsigned_from(),
        };
        let signs_upstream = match unsigned_from {
            Some(uplink) => Box::pin(self.is_keyless(uplink)).await,
            None => false,
        };
        let is_needed = signs_upstream || document.has_unsigned_of_ours();
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
