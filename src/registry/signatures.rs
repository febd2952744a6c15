//! Signatures of the registry: which keys check them, and who signs what nobody else has signed.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Registry, documents::Document, packument::Signing};
use crate::{error::RegistryError, models::UplinkName, uplink::Uplink};

/// Where registries publish their keys.
const KEYS_PATH: &str = "-/npm/v1/keys";
/// How long an uplink's keys are believed. They change about once a year.
const KEYS_MAXAGE: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(borrow, default)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeyId {
    keyid: String,
}

impl Registry {
    /// All keys that signatures of packages here are checked with: ours, and those of the
    /// uplinks. 404 where nothing is signed here: a part of the keys would make clients refuse
    /// the rest.
    #[tracing::instrument(name = "registry.signing_keys", skip_all)]
    pub async fn signing_keys(&self) -> Result<Vec<Value>, RegistryError> {
        let Some(signing_keys) = &self.signing_keys else {
            return Err(RegistryError::not_found("this registry signs nothing"));
        };
        let ours = signing_keys.public().iter().map(serde_json::to_value);
        let mut keys: Vec<Value> = ours
            .collect::<Result<_, _>>()
            .map_err(RegistryError::internal)?;
        for uplink in self.documents.uplinks.iter() {
            for key in self.keys_of(uplink).await?.unwrap_or_default() {
                let is_known = keys.iter().any(|known| known["keyid"] == key["keyid"]);
                if !is_known {
                    keys.push(key);
                }
            }
        }
        Ok(keys)
    }

    /// The keys that `uplink` publishes; `None` if it signs nothing.
    async fn keys_of(&self, uplink: &Arc<Uplink>) -> Result<Option<Vec<Value>>, RegistryError> {
        let body = self
            .side_documents
            .get(uplink, KEYS_PATH, KEYS_MAXAGE)
            .await?;
        let Some(body) = body else {
            return Ok(None);
        };
        let keys: Keys<'_> =
            serde_json::from_slice(&body).map_err(|error| RegistryError::UpstreamBadGateway {
                message: format!("the keys of the uplink {} cannot be read", uplink.name()),
                source: error.into(),
            })?;
        let usable = keys.keys.into_iter().filter_map(|raw| {
            serde_json::from_str::<KeyId>(raw.get())
                .ok()
                .filter(|key| !key.keyid.is_empty())?;
            serde_json::from_str(raw.get()).ok()
        });
        Ok(Some(usable.collect()))
    }

    /// What is signed here of `document`. What an uplink that has keys did not sign stays so:
    /// clients shall hear of it.
    pub(super) async fn signing(
        &self,
        document: &Document,
    ) -> Result<Option<Signing>, RegistryError> {
        let Some(keys) = self.signing_keys.clone() else {
            return Ok(None);
        };
        let signs_upstream = match &document.unsigned_from {
            None => false,
            Some(uplink) => self.is_keyless(uplink).await,
        };
        let is_needed = signs_upstream || document.has_unsigned_of_ours;
        Ok(is_needed.then_some(Signing {
            keys,
            signs_upstream,
        }))
    }

    async fn is_keyless(&self, uplink: &UplinkName) -> bool {
        let Some(uplink) = self.documents.uplinks.get(uplink) else {
            return false;
        };
        match self.keys_of(uplink).await {
            Ok(keys) => keys.is_none_or(|keys| keys.is_empty()),
            Err(error) => {
                tracing::debug!(uplink.name = %uplink.name(), error = &error as &dyn std::error::Error, "it is not known whether the uplink signs");
                false
            }
        }
    }
}
