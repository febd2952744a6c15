//! [`Secrets`]: seals what has to be readable again, such as the seeds of second factors.

use std::{fmt, io};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;

use super::{KeyStore, StorageError};
use crate::lifecycle::{random_bytes, random_hex};

/// Stands before what this version sealed.
const PREFIX: &str = "v1.";
const NONCE: usize = 24;
/// The name of the key.
pub(super) const KEY: &str = "secret.key";
/// The name of what only the right key opens.
pub(super) const CHECK: &str = "secret.check";

/// What was sealed cannot be opened with this key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it was sealed with another key; restore secret.key or RUSTACCIO_SECRET_KEY")]
pub struct WrongKey;

/// Seals and opens small secrets with one key (XChaCha20-Poly1305).
#[derive(Clone)]
pub struct Secrets {
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// With the `given` key, or else with the one that `keys` has; it is made if it is missing.
    /// Nodes that share `keys` agree on one, or do not start.
    pub async fn open(
        keys: &dyn KeyStore,
        given: Option<&SecretString>,
    ) -> Result<Self, StorageError> {
        if keys.is_shared() {
            Self::open_shared(keys, given).await
        } else {
            Self::open_or_make(keys, given).await
        }
    }

    async fn open_or_make(
        keys: &dyn KeyStore,
        given: Option<&SecretString>,
    ) -> Result<Self, StorageError> {
        if let Some(given) = given {
            return Ok(Self::with_key(given.expose_secret()));
        }
        let new = random_hex::<32>().into_bytes();
        // Another node may have been quicker: its key is everybody's.
        let key = match keys.read(KEY).await? {
            None if keys.write(KEY, &new, None).await? => new,
            None => keys.read(KEY).await?.unwrap_or_default(),
            Some(key) => key,
        };
        Self::with_stored(keys, &key)
    }

    /// Like [`Secrets::open`], for what was sealed before: a missing key is an error, because no
    /// new one opens it.
    pub async fn open_existing(
        keys: &dyn KeyStore,
        given: Option<&SecretString>,
    ) -> Result<Self, StorageError> {
        if let Some(given) = given {
            return Ok(Self::with_key(given.expose_secret()));
        }
        let key = keys.read(KEY).await?.ok_or_else(|| {
            let message = "it is missing and RUSTACCIO_SECRET_KEY is not set, but the signing key \
                           was sealed with one of them; bring it back, or take signing-keys.json \
                           away to begin with a new one";
            let error = io::Error::new(io::ErrorKind::NotFound, message);
            StorageError::io(format!("opening {}", keys.place(KEY)), error)
        })?;
        Self::with_stored(keys, &key)
    }

    /// With the `given` key, or else with the one that `keys` has; none if there is none. Nothing is made.
    pub async fn find(
        keys: &dyn KeyStore,
        given: Option<&SecretString>,
    ) -> Result<Option<Self>, StorageError> {
        if let Some(given) = given {
            return Ok(Some(Self::with_key(given.expose_secret())));
        }
        let key = keys.read(KEY).await?;
        key.map(|key| Self::with_stored(keys, &key)).transpose()
    }

    /// Whether they are those of the nodes that have sealed something in `keys`, if one has.
    pub async fn agree_with(&self, keys: &dyn KeyStore) -> Result<bool, StorageError> {
        let check = keys.read(CHECK).await?;
        Ok(check.is_none_or(|check| {
            let check = String::from_utf8_lossy(&check);
            self.unseal(CHECK, &check).is_ok()
        }))
    }

    /// The first node leaves something sealed, which all others have to be able to open.
    async fn open_shared(
        keys: &dyn KeyStore,
        given: Option<&SecretString>,
    ) -> Result<Self, StorageError> {
        let known = keys.read(CHECK).await?;
        let secrets = if known.is_some() && given.is_none() {
            Self::open_existing_shared(keys).await?
        } else {
            Self::open_or_make(keys, given).await?
        };
        let check = match known {
            Some(check) => check,
            None => {
                let new = secrets.seal(CHECK, CHECK.as_bytes()).into_bytes();
                if keys.write(CHECK, &new, None).await? {
                    new
                } else {
                    keys.read(CHECK).await?.unwrap_or_default()
                }
            }
        };
        let opened = secrets.unseal(CHECK, &String::from_utf8_lossy(&check));
        opened.map_err(|_| other_key())?;
        Ok(secrets)
    }

    async fn open_existing_shared(keys: &dyn KeyStore) -> Result<Self, StorageError> {
        let key = keys.read(KEY).await?.ok_or_else(other_key)?;
        Self::with_stored(keys, &key)
    }

    fn with_stored(keys: &dyn KeyStore, key: &[u8]) -> Result<Self, StorageError> {
        let damaged = |reason: &'static str| StorageError::Damaged {
            what: keys.place(KEY),
            source: reason.into(),
        };
        let key = std::str::from_utf8(key).map_err(|_| damaged("it is no text"))?;
        match key.trim() {
            "" => Err(damaged("it is empty")),
            key => Ok(Self::with_key(key)),
        }
    }

    fn with_key(text: &str) -> Self {
        let digest: [u8; 32] = sha2::Sha256::digest(text).into();
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(digest)),
        }
    }

    /// Seals `plain` so that it can only be opened for the same `purpose`.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> String {
        let nonce = random_bytes::<NONCE>();
        let payload = Payload {
            msg: plain,
            aad: purpose.as_bytes(),
        };
        // Fails for messages of more than 256 GiB alone.
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.unwrap_or_default());
        format!("{PREFIX}{}", BASE64.encode(bytes))
    }

    /// Opens what was sealed for `purpose`.
    pub fn unseal(&self, purpose: &str, sealed: &str) -> Result<Vec<u8>, WrongKey> {
        let text = sealed.strip_prefix(PREFIX).ok_or(WrongKey)?;
        let bytes = BASE64.decode(text).map_err(|_| WrongKey)?;
        let (nonce, message) = bytes.split_first_chunk::<NONCE>().ok_or(WrongKey)?;
        let payload = Payload {
            msg: message,
            aad: purpose.as_bytes(),
        };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| WrongKey)
    }
}

fn other_key() -> StorageError {
    let message = "other nodes of this registry use another key; give all of them the same \
                   RUSTACCIO_SECRET_KEY, or none of them any";
    StorageError::backend("opening what other nodes have sealed", message)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::storage::FileKeys;

    #[tokio::test]
    async fn the_key_file_is_made_once_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let keys = FileKeys::new(folder.path().to_owned());
        assert!(Secrets::open_existing(&keys, None).await.is_err());
        assert!(!path.exists());
        let sealed = Secrets::open(&keys, None).await.unwrap();
        let sealed = sealed.seal("seed", b"text");
        let again = Secrets::open(&keys, None).await.unwrap();
        assert_eq!(again.unseal("seed", &sealed).unwrap(), b"text");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(!sealed.contains("text"));
    }

    #[tokio::test]
    async fn nothing_opens_with_another_key_or_for_another_purpose() {
        let keys = FileKeys::new("unused".into());
        let given = |text: &str| SecretString::from(text.to_owned());
        let one = Secrets::open(&keys, Some(&given("one"))).await.unwrap();
        let other = Secrets::open(&keys, Some(&given("other"))).await.unwrap();
        let sealed = one.seal("seed", b"text");
        assert!(one.unseal("key", &sealed).is_err());
        assert!(other.unseal("seed", &sealed).is_err());
        let cut: String = sealed.chars().take(sealed.len() - 2).collect();
        for damaged in ["", "v1.", "v1.AAAA", "v2.x", &cut] {
            assert!(one.unseal("seed", damaged).is_err(), "{damaged}");
        }
        assert_ne!(sealed, one.seal("seed", b"text"));
    }
}
