//! [`Credentials`]: what an `Authorization` header holds.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::SecretString;

const MAX_LENGTH: usize = 8 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials in one of the two schemes that clients use.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `Bearer <token>`.
    Bearer(SecretString),
    /// `Basic <base64 of user:password>`.
    Basic {
        /// The part before the first colon.
        username: String,
        /// The rest.
        password: SecretString,
    },
}

/// The header is not in one of the two schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization header is neither `Bearer <token>` nor `Basic <user:password>`")]
pub struct MalformedCredentials;

impl Credentials {
    /// Reads an `Authorization` header (RFC 9110, section 11.6.2); schemes in any case.
    pub fn parse(header: &str) -> Result<Self, MalformedCredentials> {
        if header.len() > MAX_LENGTH {
            return Err(MalformedCredentials);
        }
        let (scheme, value) = header.trim().split_once(' ').ok_or(MalformedCredentials)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Ok(Self::Bearer(value.into()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(MalformedCredentials);
        }
        let decoded = BASE64.decode(value).map_err(|_| MalformedCredentials)?;
        let decoded = String::from_utf8(decoded).map_err(|_| MalformedCredentials)?;
        let (username, password) = decoded.split_once(':').ok_or(MalformedCredentials)?;
        Ok(Self::Basic {
            username: username.to_owned(),
            password: password.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn show(header: &str) -> Option<String> {
        match Credentials::parse(header).ok()? {
            Credentials::Bearer(token) => Some(format!("bearer {}", token.expose_secret())),
            Credentials::Basic { username, password } => {
                Some(format!("basic {username} {}", password.expose_secret()))
            }
        }
    }

    #[test]
    fn both_schemes_in_any_case() {
        assert_eq!(show("Bearer abc").as_deref(), Some("bearer abc"));
        assert_eq!(show("bearer  abc ").as_deref(), Some("bearer abc"));
        assert_eq!(show("Basic YTpiOmM=").as_deref(), Some("basic a b:c"));
        assert_eq!(show("BASIC YTpiOmM").as_deref(), Some("basic a b:c"));
    }

    #[test]
    fn everything_else_is_malformed() {
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Digest x",
            "Basic !",
            "Basic YQ==",
            "Basic //79",
        ] {
            assert_eq!(show(header), None, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(header in any::<String>()) {
            let _ = Credentials::parse(&header);
            let _ = Credentials::parse(&format!("Basic {header}"));
        }
    }
}
