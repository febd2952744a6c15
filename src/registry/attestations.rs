//! Attestations of versions: provenance that was published with them, or upstream's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Registry,
    side_documents::{Patience, SideDocument},
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, Digest, PackageName, Version},
    uplink::UplinkError,
};

const STATEMENT: &str = "application/vnd.in-toto+json";

/// The attestations of a version, as an uplink sent them.
#[derive(Clone, Debug)]
pub(super) struct Attestations(Bytes);

impl SideDocument for Attestations {
    fn parse(body: &Bytes) -> Result<Self, UplinkError> {
        match serde_json::from_slice::<&RawValue>(body) {
            Ok(_) => Ok(Self(body.clone())),
            Err(_) => Err(UplinkError::BadBody("it is not JSON")),
        }
    }
}

/// A Sigstore bundle, as far as it is looked at.
#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "dsseEnvelope")]
    envelope: Envelope,
}

#[derive(Deserialize)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
}

/// An in-toto statement, as far as it is looked at.
#[derive(Deserialize)]
struct Statement {
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha512: Option<String>,
}

/// A provenance bundle that belongs to the version it was sent with.
#[derive(Clone, Debug)]
pub(super) struct Provenance {
    /// The bundle, as it was sent.
    pub(super) bundle: String,
    /// What it states.
    pub(super) predicate_type: String,
}

impl Provenance {
    /// Reads a bundle that must be about the tarball with this digest. Who signed it is for
    /// clients to check, who have the roots of trust.
    pub(super) fn parse(
        bundle: String,
        name: &PackageName,
        version: &Version,
        sha512: &Digest,
    ) -> Result<Self, RegistryError> {
        let wrong = |reason: &str| {
            RegistryError::unprocessable(format!(
                "Error verifying sigstore provenance bundle: {reason}"
            ))
        };
        let parsed: Bundle =
            serde_json::from_str(&bundle).map_err(|_| wrong("it is not a Sigstore bundle"))?;
        let Envelope {
            payload,
            payload_type,
        } = parsed.envelope;
        if payload_type != STATEMENT {
            return Err(wrong("its payload is not an in-toto statement"));
        }
        let payload = STANDARD.decode(payload);
        let payload = payload.map_err(|_| wrong("its payload is not base64"))?;
        let statement: Statement = serde_json::from_slice(&payload)
            .map_err(|_| wrong("its payload is not an in-toto statement"))?;
        let [subject] = statement.subject.as_slice() else {
            return Err(wrong("it is not about exactly one package"));
        };
        let expected = format!(
            "pkg:npm/{}@{version}",
            name.as_str().replacen('@', "%40", 1)
        );
        if subject.name != expected {
            return Err(wrong("it is about another package or version"));
        }
        if subject.digest.sha512.as_deref() != Some(sha512.to_hex().as_str()) {
            return Err(wrong("it is about other bytes"));
        }
        Ok(Self {
            predicate_type: statement.predicate_type,
            bundle,
        })
    }

    /// The document of attestations with this one in it.
    pub(super) fn document(bundle: &str) -> Result<Bytes, RegistryError> {
        let value: Value = serde_json::from_str(bundle).map_err(RegistryError::internal)?;
        let parsed: Bundle = serde_json::from_str(bundle).map_err(RegistryError::internal)?;
        let payload = STANDARD.decode(parsed.envelope.payload);
        let payload = payload.map_err(RegistryError::internal)?;
        let statement: Statement =
            serde_json::from_slice(&payload).map_err(RegistryError::internal)?;
        let document = json!({
            "attestations": [{ "predicateType": statement.predicate_type, "bundle": value }],
        });
        Ok(document.to_string().into())
    }
}

impl Registry {
    /// The attestations of a version, as JSON; 404 where there are none.
    #[tracing::instrument(name = "registry.attestations", skip_all, fields(package.name = %name, package.version = %version))]
    pub async fn attestations(
        &self,
        caller: &Caller,
        name: &PackageName,
        version: &Version,
    ) -> Result<Bytes, RegistryError> {
        let none = || RegistryError::not_found(format!("no attestations for {name}@{version}"));
        let authorised = self.authorise(caller, Action::Access, name).await;
        authorised.map_err(|error| match error {
            // Who may not know of a package hears what whoever asks for a missing one hears.
            RegistryError::NotFound { .. } => none(),
            error => error,
        })?;
        let hosted = self.documents.hosted(name).await?;
        let is_ours = |hosted: &super::hosted_documents::HostedDocument| {
            let packument = hosted.manifest.packument();
            packument.version(version.as_str()).is_some()
        };
        if let Some(hosted) = hosted.as_ref().filter(|hosted| is_ours(hosted)) {
            let bundle = hosted.manifest.provenance(version.as_str());
            return Provenance::document(bundle.ok_or_else(none)?);
        }
        if !self.documents.has_upstream(name).await? {
            return Err(none());
        }
        let segment = name.to_path_segment();
        let path = format!("-/npm/v1/attestations/{segment}@{version}");
        for uplink in self.policy.proxies_of(name) {
            let Some(uplink) = self.documents.uplinks.get(uplink) else {
                continue;
            };
            let found = self.attestations.get(uplink, &path, Patience::Enough);
            if let Some(Attestations(found)) = found.await? {
                return Ok(found);
            }
        }
        Err(none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Integrity;

    fn bundle(name: &str, digest: &str) -> String {
        let statement = json!({
            "subject": [{ "name": name, "digest": { "sha512": digest } }],
            "predicateType": "https://slsa.dev/provenance/v1",
        });
        let payload = STANDARD.encode(statement.to_string());
        json!({ "dsseEnvelope": { "payload": payload, "payloadType": STATEMENT } }).to_string()
    }

    #[track_caller]
    fn check(bundle: String, expected: &str) {
        let integrity: Integrity =
            "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
                .parse()
                .unwrap();
        let (name, version) = ("@s/n".parse().unwrap(), "1.0.0".parse().unwrap());
        let parsed = Provenance::parse(bundle, &name, &version, integrity.strongest());
        let shown = match parsed {
            Ok(provenance) => provenance.predicate_type,
            Err(error) => format!("{} {error}", error.status().as_u16()),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_bundle_is_about_the_tarball_it_came_with() {
        let digest = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        check(
            bundle("pkg:npm/%40s/n@1.0.0", digest),
            "https://slsa.dev/provenance/v1",
        );
        let refused = "422 Error verifying sigstore provenance bundle: ";
        check(
            bundle("pkg:npm/%40s/n@1.0.1", digest),
            &format!("{refused}it is about another package or version"),
        );
        check(
            bundle("pkg:npm/%40s/n@1.0.0", "00"),
            &format!("{refused}it is about other bytes"),
        );
        check(
            "{}".to_owned(),
            &format!("{refused}it is not a Sigstore bundle"),
        );
    }
}
