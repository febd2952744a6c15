//! [`SigningKeys`]: the keys that published versions are signed with.

use std::{fmt, sync::Arc};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use p256::{
    ecdsa::{Signature, SigningKey, VerifyingKey, signature::Signer as _},
    pkcs8::EncodePublicKey as _,
};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{KeyStore, Secrets, StorageError};
use crate::{lifecycle::random_bytes, models::Timestamp};

/// The name of the keys.
pub(super) const KEYS: &str = "signing-keys.json";
/// What private keys are sealed for.
const SEAL: &str = "signing-key";
const CURVE: &[u8] = b"nistp256";
const ALGORITHM: &[u8] = b"ecdsa-sha2-nistp256";

/// A key that signatures can be checked with, in the shape of `/-/npm/v1/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicSigningKey {
    /// When it was replaced; what was signed before stays valid.
    pub expires: Option<Timestamp>,
    /// `SHA256:` and the digest of the key in the form of OpenSSH, as `ssh-keygen -l` shows it.
    pub keyid: String,
    /// `ecdsa-sha2-nistp256`.
    pub keytype: String,
    /// `ecdsa-sha2-nistp256`.
    pub scheme: String,
    /// The key as `SubjectPublicKeyInfo` in DER and base64.
    pub key: String,
}

/// A key as it is kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    public: PublicSigningKey,
    /// The private scalar, sealed; gone once the key was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<String>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Form {
    keys: Vec<Record>,
}

/// All keys, the newest of which signs.
#[derive(Clone)]
pub struct SigningKeys {
    public: Vec<PublicSigningKey>,
    active: SigningKey,
    keyid: Arc<str>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("keyid", &self.keyid)
            .finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// The keys in `keys`; a first one is made if there is none.
    pub async fn open(keys: &dyn KeyStore, secrets: &Secrets) -> Result<Self, StorageError> {
        loop {
            let (form, stored) = Form::read(keys).await?;
            if form.active().is_some() {
                return Self::of(&form, secrets, keys);
            }
            let mut form = form;
            form.add(secrets);
            // Another node may have been quicker: its key is everybody's.
            if form.write(keys, stored.as_deref()).await? {
                return Self::of(&form, secrets, keys);
            }
        }
    }

    /// Replaces the key at `now`. What was signed with the old one stays valid. Fails if `secrets`
    /// do not open the old one: whoever runs the registry has others.
    pub async fn rotate(
        keys: &dyn KeyStore,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<Self, StorageError> {
        loop {
            let (mut form, stored) = Form::read(keys).await?;
            if form.active().is_some() {
                Self::of(&form, secrets, keys)?;
            }
            for record in &mut form.keys {
                record.public.expires.get_or_insert(now);
                record.private = None;
            }
            form.add(secrets);
            if form.write(keys, stored.as_deref()).await? {
                return Self::of(&form, secrets, keys);
            }
        }
    }

    /// The keys in `keys`, oldest first, as far as anybody may know them; none if there are none.
    pub async fn list(keys: &dyn KeyStore) -> Result<Vec<PublicSigningKey>, StorageError> {
        let (form, _) = Form::read(keys).await?;
        Ok(form.public())
    }

    /// Whether `secrets` open the key of `keys` that signs; nothing has to be opened where none does.
    pub async fn open_with(keys: &dyn KeyStore, secrets: &Secrets) -> Result<bool, StorageError> {
        let (form, _) = Form::read(keys).await?;
        let sealed = form.active().and_then(|record| record.private.as_deref());
        Ok(sealed.is_none_or(|sealed| secrets.unseal(SEAL, sealed).is_ok()))
    }

    /// All keys that signatures can be checked with, oldest first.
    pub fn public(&self) -> &[PublicSigningKey] {
        &self.public
    }

    /// The id of the key that signs.
    pub fn keyid(&self) -> &Arc<str> {
        &self.keyid
    }

    /// The signature of `message` in DER and base64. The same for the same message (RFC 6979).
    pub fn sign(&self, message: &str) -> String {
        let signature: Signature = self.active.sign(message.as_bytes());
        STANDARD.encode(signature.to_der().as_bytes())
    }

    fn of(form: &Form, secrets: &Secrets, keys: &dyn KeyStore) -> Result<Self, StorageError> {
        let damaged = |source| StorageError::Damaged {
            what: keys.place(KEYS),
            source,
        };
        let record = form
            .active()
            .ok_or_else(|| damaged("no key in it signs".into()))?;
        let sealed = record.private.as_deref().unwrap_or_default();
        let scalar = secrets.unseal(SEAL, sealed);
        let scalar = scalar.map_err(|error| damaged(error.into()))?;
        let active = SigningKey::from_slice(&scalar);
        Ok(Self {
            public: form.public(),
            active: active.map_err(|_| damaged("the private key is none".into()))?,
            keyid: record.public.keyid.as_str().into(),
        })
    }
}

impl Form {
    /// What is kept, and its bytes.
    async fn read(keys: &dyn KeyStore) -> Result<(Self, Option<Vec<u8>>), StorageError> {
        let json = keys.read(KEYS).await?;
        let form = match &json {
            None => Self::default(),
            Some(json) => Self::parse(keys, json)?,
        };
        Ok((form, json))
    }

    fn parse(keys: &dyn KeyStore, json: &[u8]) -> Result<Self, StorageError> {
        serde_json::from_slice(json).map_err(|error| StorageError::Damaged {
            what: keys.place(KEYS),
            source: error.into(),
        })
    }

    fn to_json(&self) -> Result<Vec<u8>, StorageError> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| StorageError::backend("writing the signing keys", error))
    }

    fn public(&self) -> Vec<PublicSigningKey> {
        self.keys.iter().map(|key| key.public.clone()).collect()
    }

    async fn write(
        &self,
        keys: &dyn KeyStore,
        expected: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        keys.write(KEYS, &self.to_json()?, expected).await
    }

    fn active(&self) -> Option<&Record> {
        let mut newest_first = self.keys.iter().rev();
        newest_first.find(|key| key.private.is_some() && key.public.expires.is_none())
    }

    fn add(&mut self, secrets: &Secrets) {
        // All but one in 2^32 numbers are keys.
        let key = loop {
            if let Ok(key) = SigningKey::from_slice(&random_bytes::<32>()) {
                break key;
            }
        };
        self.keys.push(Record {
            public: public_key_of(key.verifying_key()),
            private: Some(secrets.seal(SEAL, &key.to_bytes())),
        });
    }
}

/// The keys `there`, and those of `value` that are not among them: whatever was signed with one of either
/// stays valid, what was replaced stays replaced, and the key that signs there goes on signing.
pub(super) fn merge(
    from: &dyn KeyStore,
    value: &[u8],
    to: &dyn KeyStore,
    there: &[u8],
) -> Result<Vec<u8>, StorageError> {
    let (source, target) = (Form::parse(from, value)?, Form::parse(to, there)?);
    let (mut added, mut kept) = (source.keys, target.keys.clone());
    for record in &mut kept {
        let mut same = added.extract_if(.., |other| other.public.keyid == record.public.keyid);
        if let Some(other) = same.next() {
            let both = [record.public.expires, other.public.expires];
            record.public.expires = both.into_iter().flatten().min();
        }
        same.for_each(drop);
        if record.public.expires.is_some() {
            record.private = None;
        }
    }
    let mut merged = Form { keys: kept };
    if merged.active().is_some() {
        for record in &mut added {
            record.private = None;
        }
        // The last one signs.
        merged.keys.splice(0..0, added);
    } else {
        merged.keys.append(&mut added);
    }
    // Written only where something is another, whatever the spelling.
    if merged == target {
        return Ok(there.to_vec());
    }
    merged.to_json()
}

fn public_key_of(key: &VerifyingKey) -> PublicSigningKey {
    let point = key.to_sec1_point(false);
    let mut blob = Vec::new();
    for part in [ALGORITHM, CURVE, point.as_bytes()] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        blob.extend_from_slice(&length.to_be_bytes());
        blob.extend_from_slice(part);
    }
    let digest = STANDARD_NO_PAD.encode(sha2::Sha256::digest(&blob));
    // A key that was made from a point can be written.
    let der = key.to_public_key_der().map(|der| STANDARD.encode(&der));
    let algorithm = String::from_utf8_lossy(ALGORITHM).into_owned();
    PublicSigningKey {
        expires: None,
        keyid: format!("SHA256:{digest}"),
        keytype: algorithm.clone(),
        scheme: algorithm,
        key: der.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use p256::{ecdsa::signature::Verifier as _, pkcs8::DecodePublicKey as _};

    use super::*;
    use crate::storage::FileKeys;

    fn verifies(key: &PublicSigningKey, message: &str, signature: &str) -> bool {
        let der = STANDARD.decode(&key.key).unwrap();
        let key = VerifyingKey::from_public_key_der(&der).unwrap();
        let signature = Signature::from_der(&STANDARD.decode(signature).unwrap()).unwrap();
        key.verify(message.as_bytes(), &signature).is_ok()
    }

    #[tokio::test]
    async fn what_was_signed_stays_valid_after_the_key_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-keys.json");
        let kept = FileKeys::new(folder.path().to_owned());
        let secrets = Secrets::open(&kept, None).await.unwrap();
        let first = SigningKeys::open(&kept, &secrets).await.unwrap();
        let signature = first.sign("a@1.0.0:sha512-x");
        assert!(verifies(&first.public()[0], "a@1.0.0:sha512-x", &signature));
        let again = SigningKeys::open(&kept, &secrets).await.unwrap();
        assert_eq!(again.keyid(), first.keyid());
        assert_eq!(again.sign("a@1.0.0:sha512-x"), signature);

        let now = Timestamp::from_unix_millis(1);
        SigningKeys::rotate(&kept, &secrets, now).await.unwrap();
        let rotated = SigningKeys::open(&kept, &secrets).await.unwrap();
        assert_ne!(rotated.keyid(), first.keyid());
        let keys = rotated.public();
        assert_eq!(
            (keys.len(), keys[0].expires, keys[1].expires),
            (2, Some(now), None)
        );
        assert!(verifies(&keys[0], "a@1.0.0:sha512-x", &signature));
        let json = std::fs::read_to_string(&path).unwrap();
        assert_eq!(json.matches("\"private\"").count(), 1);

        let given = secrecy::SecretString::from("another key".to_owned());
        let others = Secrets::open(&kept, Some(&given)).await.unwrap();
        let refused = SigningKeys::rotate(&kept, &others, now).await;
        assert!(refused.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), json);
        assert_eq!(SigningKeys::list(&kept).await.unwrap(), keys);
    }

    #[tokio::test]
    async fn merged_keys_are_all_there_and_the_newest_of_the_target_signs() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, other] = folders
            .each_ref()
            .map(|folder| FileKeys::new(folder.path().to_owned()));
        let secrets = Secrets::open(&one, None).await.unwrap();
        SigningKeys::open(&one, &secrets).await.unwrap();
        let old = one.read(KEYS).await.unwrap().unwrap();
        other.write(KEYS, &old, None).await.unwrap();
        let now = Timestamp::from_unix_millis(1);
        SigningKeys::rotate(&one, &secrets, now).await.unwrap();
        let new = one.read(KEYS).await.unwrap().unwrap();
        // Whichever is older, what was replaced stays replaced.
        assert_eq!(merge(&one, &old, &one, &new).unwrap(), new);
        assert_eq!(merge(&one, &new, &one, &old).unwrap(), new);

        // Both have replaced it.
        let later = Timestamp::from_unix_millis(2);
        SigningKeys::rotate(&other, &secrets, later).await.unwrap();
        let there = other.read(KEYS).await.unwrap().unwrap();
        let merged = merge(&one, &new, &other, &there).unwrap();
        let signs = SigningKeys::open(&other, &secrets).await.unwrap();
        other.write(KEYS, &merged, Some(&there)).await.unwrap();
        let keys = SigningKeys::open(&other, &secrets).await.unwrap();
        assert_eq!(keys.keyid(), signs.keyid());
        assert_eq!(keys.public().len(), 3);
        assert_eq!(
            keys.public()
                .iter()
                .filter_map(|key| key.expires)
                .collect::<Vec<_>>(),
            [now]
        );
        assert_eq!(
            String::from_utf8(merged)
                .unwrap()
                .matches("\"private\"")
                .count(),
            1
        );
    }

    #[test]
    fn the_id_of_a_key_is_the_one_that_openssh_shows() {
        // The public registry's key of 2025 and its published id.
        let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY6Ya7W++7aUPzvMTrezH6Ycx3c+HOKYCcNGybJZSCJq/fd7Qa8uuAKtdIkUQtQiEKERhAmE5lMMJhP8OkDOa2g==";
        let der = STANDARD.decode(spki).unwrap();
        let key = VerifyingKey::from_public_key_der(&der).unwrap();
        let shown = public_key_of(&key);
        assert_eq!(shown.key, spki);
        assert_eq!(
            shown.keyid,
            "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U"
        );
    }
}
