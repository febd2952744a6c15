//! [`TarballHasher`]: the digests of a tarball, computed while it arrives, and their check.

use sha1::{Digest as _, Sha1};
use sha2::Sha512;

use crate::{
    error::RegistryError,
    models::{Algorithm, Digest, Integrity},
};

/// Computes sha1, sha512 and length of bytes as they come. Blocking work for large bodies.
#[derive(Clone, Debug, Default)]
pub struct TarballHasher {
    sha1: Sha1,
    sha512: Sha512,
    length: u64,
}

impl TarballHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.sha512.update(bytes);
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.length = self.length.saturating_add(count);
    }

    /// Returns the digests of all the bytes.
    pub fn finish(self) -> TarballDigests {
        TarballDigests {
            sha1: Digest {
                algorithm: Algorithm::Sha1,
                bytes: self.sha1.finalize().to_vec(),
            },
            sha512: Digest {
                algorithm: Algorithm::Sha512,
                bytes: self.sha512.finalize().to_vec(),
            },
            length: self.length,
        }
    }
}

/// What is true of a tarball's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarballDigests {
    /// `dist.shasum`, in hexadecimal.
    pub sha1: Digest,
    /// `dist.integrity`.
    pub sha512: Digest,
    /// Bytes.
    pub length: u64,
}

/// What the client says in `dist` about the tarball's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistClaims {
    /// `dist.shasum`.
    pub shasum: Option<String>,
    /// `dist.integrity`.
    pub integrity: Option<String>,
}

impl TarballDigests {
    /// Returns a 400 if the client meant other bytes than those that came.
    pub fn check(&self, claims: &DistClaims) -> Result<(), RegistryError> {
        if let Some(claimed) = &claims.shasum {
            let computed = self.sha1.to_hex();
            if !claimed.eq_ignore_ascii_case(&computed) {
                let claimed: String = claimed.chars().take(80).collect();
                let message = format!("shasum error, {claimed} != {computed}");
                return Err(RegistryError::bad_request(message));
            }
        }
        match &claims.integrity {
            Some(claimed) => self.check_integrity(claimed),
            None => Ok(()),
        }
    }

    fn check_integrity(&self, claimed: &str) -> Result<(), RegistryError> {
        let integrity: Integrity = claimed
            .parse()
            .map_err(|error| RegistryError::bad_request(format!("{error} in `dist.integrity`")))?;
        let computed = match integrity.strongest().algorithm {
            Algorithm::Sha512 => self.sha512.to_string(),
            Algorithm::Sha1 => self.sha1.to_string(),
            Algorithm::Sha256 | Algorithm::Sha384 => {
                return Err(RegistryError::bad_request(
                    "`dist.integrity` has no sha512: publish with a client that sends one",
                ));
            }
        };
        let normal = integrity.to_string();
        if normal.split(' ').any(|digest| digest == computed) {
            Ok(())
        } else {
            let message = format!("integrity error, {normal} != {computed}");
            Err(RegistryError::bad_request(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHASUM: &str = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
    const SHA1: &str = "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=";

    fn hello() -> TarballDigests {
        let mut hasher = TarballHasher::default();
        hasher.update(b"hel");
        hasher.update(b"lo");
        hasher.finish()
    }

    #[track_caller]
    fn check(shasum: Option<&str>, integrity: Option<&str>, expected: Option<&str>) {
        let claims = DistClaims {
            shasum: shasum.map(str::to_owned),
            integrity: integrity.map(str::to_owned),
        };
        let message = hello().check(&claims).err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), expected, "{claims:?}");
    }

    #[test]
    fn digests_do_not_depend_on_the_pieces() {
        let digests = hello();
        assert_eq!(digests.sha1.to_hex(), SHASUM);
        assert_eq!(digests.length, 5);
    }

    #[test]
    fn what_the_client_says_must_be_true() {
        let ours = hello().sha512.to_string();
        let other = TarballHasher::default().finish().sha512.to_string();
        check(None, None, None);
        check(Some(SHASUM), Some(&ours), None);
        check(Some(&SHASUM.to_uppercase()), Some(SHA1), None);
        check(None, Some(&format!("{other} {ours}?x")), None);
        let wrong = format!("integrity error, {other} != {ours}");
        check(Some(SHASUM), Some(&other), Some(&wrong));
        check(
            Some("0000"),
            None,
            Some(&format!("shasum error, 0000 != {SHASUM}")),
        );
        check(
            None,
            Some("rubbish"),
            Some("invalid integrity `rubbish` in `dist.integrity`"),
        );
    }

    #[test]
    fn a_weaker_right_digest_does_not_excuse_a_stronger_wrong_one() {
        let other = TarballHasher::default().finish().sha512.to_string();
        let claims = DistClaims {
            shasum: None,
            integrity: Some(format!("{SHA1} {other}")),
        };
        assert!(hello().check(&claims).is_err());
    }
}
