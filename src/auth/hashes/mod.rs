//! Every form in which password files keep hashes, told apart by how they begin.

mod des_crypt;
mod md5_crypt;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha_crypt::ShaCrypt;
use sha1::Digest as _;
use subtle::ConstantTimeEq as _;

use crate::error::RegistryError;

/// A cost of bcrypt beyond which a login would take minutes; each step takes twice as long.
const MAX_BCRYPT_COST: u32 = 16;
/// Rounds of SHA-crypt beyond which a login would take seconds.
const MAX_SHA_ROUNDS: u32 = 1_000_000;
/// What bcrypt looks at of a password, in bytes.
pub(super) const MAX_BCRYPT_LENGTH: usize = 72;
/// What stands at the beginning of our own hashes.
const ARGON2ID: &str = "$argon2id$";

/// The password's hash as Argon2id, in PHC form.
pub(super) fn argon2id(password: &str) -> Result<String, RegistryError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| RegistryError::internal(error.to_string()))
}

/// The password's hash as bcrypt; the cost is brought between 4 and 16. The password must not be longer
/// than bcrypt reads.
pub(super) fn bcrypt(password: &str, cost: u32) -> Result<String, RegistryError> {
    if password.len() > MAX_BCRYPT_LENGTH {
        return Err(RegistryError::internal("longer than bcrypt reads"));
    }
    ::bcrypt::hash(password, cost.clamp(4, MAX_BCRYPT_COST))
        .map_err(|error| RegistryError::internal(error.to_string()))
}

/// Whether a hash is weaker than those made here.
pub(super) fn is_weak(hash: &str) -> bool {
    !hash.starts_with(ARGON2ID)
}

/// Whether `password` has the hash; not of one that is in no known form, or would take too long.
pub(super) fn verify(password: &str, hash: &str) -> bool {
    let bytes = password.as_bytes();
    if password.is_empty() {
        return false;
    }
    if hash.starts_with("$argon2") {
        return has_bearable_memory(hash)
            && PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(bytes, &hash).is_ok());
    }
    if ["$2a$", "$2b$", "$2x$", "$2y$"]
        .iter()
        .any(|form| hash.starts_with(form))
    {
        return has_bearable_cost(hash) && ::bcrypt::verify(bytes, hash).is_ok_and(|right| right);
    }
    if hash.starts_with("$5$") || hash.starts_with("$6$") {
        return has_bearable_rounds(hash)
            && ShaCrypt::default().verify_password(bytes, hash).is_ok();
    }
    if let Some(rest) = hash.strip_prefix("$apr1$") {
        return is_any(password, |bytes| {
            md5_crypt::verify(bytes, md5_crypt::APACHE, rest)
        });
    }
    if let Some(rest) = hash.strip_prefix("$1$") {
        return is_any(password, |bytes| {
            md5_crypt::verify(bytes, md5_crypt::UNIX, rest)
        });
    }
    if let Some(digest) = hash.strip_prefix("{SHA}") {
        let computed = STANDARD.encode(sha1::Sha1::digest(bytes));
        return is_same(computed.as_bytes(), digest.as_bytes());
    }
    if let Some(plain) = hash.strip_prefix("{PLAIN}") {
        return is_same(bytes, plain.as_bytes());
    }
    is_any(password, |bytes| des_crypt::verify(bytes, hash))
}

/// Whether the password is right in UTF-8, as most have it, or as Verdaccio makes these forms of it: the
/// lower half of each unit of UTF-16.
fn is_any(password: &str, is_right: impl Fn(&[u8]) -> bool) -> bool {
    let halves = || password.encode_utf16().map(|unit| unit.to_le_bytes()[0]);
    is_right(password.as_bytes())
        || (!password.is_ascii() && is_right(&halves().collect::<Vec<u8>>()))
}

/// Whether two texts are the same, found out in a time that tells only their lengths.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// At most 256 MiB, and ten rounds.
fn has_bearable_memory(hash: &str) -> bool {
    let number = |name: &str| {
        let parameters = hash.split('$').nth(3)?.split(',');
        let mut values = parameters.filter_map(|parameter| parameter.strip_prefix(name));
        values.next()?.parse::<u32>().ok()
    };
    number("m=").is_some_and(|kib| kib <= 256 * 1024)
        && number("t=").is_some_and(|times| times <= 10)
}

fn has_bearable_cost(hash: &str) -> bool {
    let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    cost.is_some_and(|cost| cost <= MAX_BCRYPT_COST)
}

fn has_bearable_rounds(hash: &str) -> bool {
    let Some(rounds) = hash.get(3..).and_then(|rest| rest.strip_prefix("rounds=")) else {
        return true;
    };
    let rounds = rounds.split('$').next().unwrap_or_default();
    rounds
        .parse::<u32>()
        .is_ok_and(|rounds| rounds <= MAX_SHA_ROUNDS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by OpenSSL, Apache's `htpasswd`, the system's crypt(3), and Verdaccio 6.10.4.
    const MADE_ELSEWHERE: &[(&str, &str)] = &[
        ("secret", "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"),
        ("secret", "$1$abc$iCQ2D3nhptRYi27fDYv2s1"),
        (
            "secret",
            "$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.",
        ),
        (
            "secret",
            "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
        ),
        (
            "secret",
            "$2y$05$lMBkV4p5qfuhFwJiZM15Ju2mol/3oCdXPacMc8dZrQOouRxh6rJqW",
        ),
        ("secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("secret", "$apr1$WQ7q9hHO$1Dmsbz2sMV4GUZLwKYUF5/"),
        ("secret", "/Q6QpxmQZ2ZPg"),
        ("secret", "abNANd1rDfiNc"),
        ("secret", "{PLAIN}secret"),
        (
            "secret",
            "$2a$05$GJX0rTDcjRi4cA0S7AUblu4AlNPOHJyfYHiavNYaMT8P.eAPaUGdC",
        ),
        (
            "secret",
            "$2x$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        ),
        (
            "secret",
            "$5$rounds=1400$anotherlongsalts$hA9phAhHgeqcKTycY/LRKamQM18d5P2uD0VRrWGWMX6",
        ),
        ("pässwörd", "$apr1$saltsalt$i5XfNxJNeh2E8ljXycZFm0"),
        ("pässwörd", "$1$abc$va.mDh.xD0xaCpxxh9akd0"),
        (
            "pässwörd",
            "$5$saltstring$bWOoCRTKNT.aiY/gJjvk1HjBYuRpcYQmcc5hqf6H4T4",
        ),
        (
            "pässwörd",
            "$2y$05$yrF/nNEn4EFXMLdxXxwSHO0sXfNLukjM0EpNedSWfmgTjbPY5oE2e",
        ),
        ("pässwörd", "{SHA}9Rfd8dMqES/xrVXGbRsSyzjn6Pc="),
        ("pässwörd", "F.9jKoDOrC/kk"),
        ("pässwörd", "zZw8laZTywrOQ"),
        ("pässwörd", "I9W9oC.7UcdFw"),
        ("pässwörd", "$apr1$CcZAAJpP$r/gwoiImpf00RO9JwGiKQ1"),
        (
            "pässwörd",
            "$2a$04$bfPw29WZmiY3nOU6UeAQ2uPractTBXVzX1QSXkiusqabzZnjFRPFG",
        ),
        ("a", "9.SShbUU5B7jM"),
        ("longer than eight", "QxpBPT35EOqwg"),
        (
            "a longer password than sixteen bytes",
            "$apr1$saltsalt$fQOsGdVFkAc33miSw81BR1",
        ),
        (
            "a longer password than sixteen bytes",
            "$1$abc$1/Fg2e9LbCGZYz2aEd3EN0",
        ),
        ("a longer password than sixteen bytes", "IbWqmvdTBH1uo"),
        (
            "a longer password than sixteen bytes",
            "$5$saltstring$jm/fCzi2kdqdIqFuA8T/VAWJIx7Xt8THdz8JQux.7Z3",
        ),
        // With a byte of zero in it.
        (
            "a\0b",
            "$2a$04$CW5mNjmTNq/ocg8HG.CBwOW6kacLTOzd.rSA.e7j7.aIvACRL8nqO",
        ),
    ];

    #[test]
    fn an_empty_password_is_never_right() {
        for hash in [
            "$apr1$saltsalt$a8ml/vK5HEjiZ5oypDWA7/",
            "$1$abc$Or2rbeUYTvt12aiVzMuS/.",
            "./Una9Fi.seRo",
            "{PLAIN}",
        ] {
            assert!(!verify("", hash), "{hash}");
        }
    }

    #[test]
    fn what_others_made_is_verified() {
        for (password, hash) in MADE_ELSEWHERE {
            assert!(verify(password, hash), "{password:?} {hash}");
            assert!(!verify(&format!("x{password}"), hash), "{hash}");
            assert!(is_weak(hash), "{hash}");
            // Neither half a hash nor one with more behind it.
            assert!(!verify(password, &hash[..hash.len() - 1]), "{hash}");
            assert!(!verify(password, &format!("{hash}x")), "{hash}");
        }
    }

    #[test]
    fn what_is_longer_than_bcrypt_reads_is_cut_where_verdaccio_cuts_it() {
        let hash = "$2a$04$VBOTpDqw6qLFoWg/zFcPReZnJt3NA/pAsv.pB/kEQNdMCu2D.ye4e";
        assert!(verify(&"x".repeat(100), hash));
        assert!(verify(&"x".repeat(72), hash));
        assert!(!verify(&"x".repeat(71), hash));
        assert!(bcrypt(&"x".repeat(73), 4).is_err());
    }

    #[test]
    fn new_ones_are_verified() {
        let hash = bcrypt("secret", 4).unwrap();
        assert!(hash.starts_with("$2b$04$"), "{hash}");
        assert!(verify("secret", &hash) && !verify("Secret", &hash));
        let hash = argon2id("secret").unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(verify("secret", &hash) && !verify("Secret", &hash) && !is_weak(&hash));
    }

    #[test]
    fn what_would_take_for_ever_is_refused() {
        let cost =
            |cost| format!("$2y${cost}$lMBkV4p5qfuhFwJiZM15Ju2mol/3oCdXPacMc8dZrQOouRxh6rJqW");
        assert!(has_bearable_cost(&cost("16")));
        for absurd in ["17", "31", "99", "-1", "xx"] {
            assert!(!verify("secret", &cost(absurd)), "{absurd}");
        }
        let hash = "$5$rounds=999999999$abc$hA9phAhHgeqcKTycY/LRKamQM18d5P2uD0VRrWGWMX6";
        assert!(!verify("secret", hash));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_panics(password in any::<String>(), rest in any::<String>(), form in 0..12_usize) {
            let forms = [
                "", "$1$", "$apr1$", "$5$", "$6$", "$2a$", "$2y$04$", "{SHA}", "{PLAIN}", "$argon2id$", "$", "ab",
            ];
            verify(&password, &format!("{}{rest}", forms[form]));
        }
    }
}
