//! [`Integrity`]: Subresource Integrity strings as `dist.integrity` has them, and their check.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::Digest as _;

const MAX_LENGTH: usize = 4096;

/// A hash function that npm uses. Ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha1`, the only hash of packages from before 2017.
    Sha1,
    /// `sha256`.
    Sha256,
    /// `sha384`.
    Sha384,
    /// `sha512`, what every client sends today.
    Sha512,
}

impl Algorithm {
    /// The name in an integrity string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn digest_length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// One hash of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The hash function.
    pub algorithm: Algorithm,
    /// Its output, of the length that the function has.
    pub bytes: Vec<u8>,
}

impl Digest {
    /// Lower-case hexadecimal, as `dist.shasum` has it.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}",
            self.algorithm.as_str(),
            STANDARD.encode(&self.bytes)
        )
    }
}

/// A list of digests; bytes are right when they match any digest of the strongest function, as in
/// the W3C recommendation that npm follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Integrity {
    digests: Vec<Digest>,
}

/// The text has no digest that can be checked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid integrity `{0}`")]
pub struct InvalidIntegrity(String);

impl Integrity {
    /// The integrity that a sha1 in hexadecimal stands for, as `dist.shasum` has it.
    pub fn from_shasum(shasum: &str) -> Result<Self, InvalidIntegrity> {
        let bytes = hex::decode(shasum).map_err(|_| invalid(shasum))?;
        if bytes.len() != Algorithm::Sha1.digest_length() {
            return Err(invalid(shasum));
        }
        let digests = vec![Digest {
            algorithm: Algorithm::Sha1,
            bytes,
        }];
        Ok(Self { digests })
    }

    /// The first digest of the strongest function; never missing.
    pub fn strongest(&self) -> &Digest {
        let strongest = self.strongest_algorithm();
        self.digests
            .iter()
            .find(|digest| digest.algorithm == strongest)
            .unwrap_or(&self.digests[0])
    }

    /// A check of bytes that arrive piece by piece.
    pub fn verifier(&self) -> Verifier {
        let algorithm = self.strongest_algorithm();
        Verifier {
            accepted: self
                .digests
                .iter()
                .filter(|digest| digest.algorithm == algorithm)
                .map(|digest| digest.bytes.clone())
                .collect(),
            hasher: Hasher::new(algorithm),
        }
    }

    fn strongest_algorithm(&self) -> Algorithm {
        self.digests
            .iter()
            .map(|digest| digest.algorithm)
            .max()
            .unwrap_or(Algorithm::Sha512)
    }
}

impl FromStr for Integrity {
    type Err = InvalidIntegrity;

    /// Digests of unknown functions and malformed entries are passed over, as clients do.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(invalid(text));
        }
        let digests: Vec<Digest> = text.split_ascii_whitespace().filter_map(entry).collect();
        if digests.is_empty() {
            return Err(invalid(text));
        }
        Ok(Self { digests })
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digest) in self.digests.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{digest}")?;
        }
        Ok(())
    }
}

/// `sha512-<base64>[?options]`.
fn entry(text: &str) -> Option<Digest> {
    let (name, value) = text.split_once('-')?;
    let value = value.split_once('?').map_or(value, |(value, _)| value);
    let algorithm = match name {
        "sha1" => Algorithm::Sha1,
        "sha256" => Algorithm::Sha256,
        "sha384" => Algorithm::Sha384,
        "sha512" => Algorithm::Sha512,
        _ => return None,
    };
    let bytes = STANDARD.decode(value).ok()?;
    (bytes.len() == algorithm.digest_length()).then_some(Digest { algorithm, bytes })
}

fn invalid(text: &str) -> InvalidIntegrity {
    InvalidIntegrity(text.chars().take(120).collect())
}

/// Hashes bytes as they come and says at the end whether they were the right ones.
#[derive(Clone, Debug)]
pub struct Verifier {
    accepted: Vec<Vec<u8>>,
    hasher: Hasher,
}

impl Verifier {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Whether all the bytes together have one of the expected digests; else what they have.
    pub fn finish(self) -> Result<Digest, Digest> {
        let algorithm = self.hasher.algorithm();
        let bytes = self.hasher.finish();
        let is_right = self.accepted.contains(&bytes);
        let digest = Digest { algorithm, bytes };
        if is_right { Ok(digest) } else { Err(digest) }
    }
}

#[derive(Clone, Debug)]
enum Hasher {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => Self::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha1(_) => Algorithm::Sha1,
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha384(_) => Algorithm::Sha384,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha384(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=";

    fn verify(integrity: &Integrity, bytes: &[u8]) -> bool {
        let mut verifier = integrity.verifier();
        for byte in bytes {
            verifier.update(std::slice::from_ref(byte));
        }
        verifier.finish().is_ok()
    }

    #[test]
    fn right_bytes_pass_and_others_do_not() {
        let integrity: Integrity = HELLO.parse().unwrap();
        assert!(verify(&integrity, b"hello"));
        assert!(!verify(&integrity, b"hellO"));
        assert_eq!(integrity.to_string(), HELLO);
    }

    #[test]
    fn the_strongest_function_decides() {
        let sha512 = "sha512-m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==";
        let text = format!("md5-AAAA {HELLO} {sha512}?opt");
        let integrity: Integrity = text.parse().unwrap();
        assert_eq!(integrity.strongest().algorithm, Algorithm::Sha512);
        assert!(verify(&integrity, b"hello"));
        let wrong: Integrity = format!("{} {}", HELLO, sha512.replace('m', "n"))
            .parse()
            .unwrap();
        assert!(
            !verify(&wrong, b"hello"),
            "a right sha1 does not excuse a wrong sha512"
        );
    }

    #[test]
    fn shasums_are_sha1() {
        let shasum = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
        let integrity = Integrity::from_shasum(shasum).unwrap();
        assert_eq!(integrity.to_string(), HELLO);
        assert_eq!(integrity.strongest().to_hex(), shasum);
        assert!(Integrity::from_shasum("zz").is_err());
    }

    #[test]
    fn nothing_checkable_is_an_error() {
        for text in [
            "",
            "md5-AAAA",
            "sha512",
            "sha512-",
            "sha1-AAAA",
            "sha512-@@@",
        ] {
            assert!(text.parse::<Integrity>().is_err(), "{text:?}");
        }
    }
}
