//! [`Secrets`]: seals what has to be readable again, such as the seeds of second factors.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;

use super::{
    StorageError,
    fs::{
        atomic::{MODE_SECRET, write_atomic},
        blocking,
        secret::read_secret,
    },
};
use crate::lifecycle::{random_bytes, random_hex};

/// Stands before what this version sealed.
const PREFIX: &str = "v1.";
const NONCE: usize = 24;

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
    /// With the `given` key, or else with the one in the file at `path`, which is made with mode
    /// 0600 if it is missing.
    pub async fn open(path: PathBuf, given: Option<&SecretString>) -> Result<Self, StorageError> {
        Self::open_or(path, given, |path| {
            let key = random_hex::<32>().into_bytes();
            write_atomic(path, &key, MODE_SECRET)?;
            Ok(key)
        })
        .await
    }

    /// Like [`Secrets::open`], for what was sealed before: a missing file is an error, because no
    /// new key opens it.
    pub async fn open_existing(
        path: PathBuf,
        given: Option<&SecretString>,
    ) -> Result<Self, StorageError> {
        Self::open_or(path, given, |_| {
            let message = "it is missing and RUSTACCIO_SECRET_KEY is not set, but the signing key \
                           was sealed with one of them; bring it back, or take signing-keys.json \
                           away to begin with a new one";
            Err(io::Error::new(io::ErrorKind::NotFound, message))
        })
        .await
    }

    async fn open_or(
        path: PathBuf,
        given: Option<&SecretString>,
        missing: impl FnOnce(&Path) -> io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Self, StorageError> {
        if let Some(given) = given {
            return Ok(Self::with_key(given.expose_secret()));
        }
        blocking(move || {
            let failed = |error| StorageError::io(format!("opening {}", path.display()), error);
            let damaged = |reason: &'static str| StorageError::Damaged {
                what: path.display().to_string(),
                source: reason.into(),
            };
            let key = match read_secret(&path).map_err(failed)? {
                Some(key) => key,
                None => missing(&path).map_err(failed)?,
            };
            let key = String::from_utf8(key).map_err(|_| damaged("it is no text"))?;
            match key.trim() {
                "" => Err(damaged("it is empty")),
                key => Ok(Self::with_key(key)),
            }
        })
        .await
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn the_key_file_is_made_once_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        assert!(Secrets::open_existing(path.clone(), None).await.is_err());
        assert!(!path.exists());
        let sealed = Secrets::open(path.clone(), None)
            .await
            .unwrap()
            .seal("seed", b"text");
        let again = Secrets::open(path.clone(), None).await.unwrap();
        assert_eq!(again.unseal("seed", &sealed).unwrap(), b"text");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(!sealed.contains("text"));
    }

    #[tokio::test]
    async fn nothing_opens_with_another_key_or_for_another_purpose() {
        let path = PathBuf::from("unused");
        let given = |text: &str| SecretString::from(text.to_owned());
        let one = Secrets::open(path.clone(), Some(&given("one")))
            .await
            .unwrap();
        let other = Secrets::open(path, Some(&given("other"))).await.unwrap();
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
