//! JSON Web Tokens (RFC 7519) as Verdaccio signs them: HMAC with SHA-256, and no other.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::{Held, ProofOfUser};
use crate::models::Timestamp;

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// What must be understood; there is nothing that is.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// Of the groups that it names, nobody is a member for that.
#[derive(Deserialize)]
struct Claims {
    name: String,
    #[serde(default)]
    token: Option<Made>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    exp: Option<f64>,
}

#[derive(Deserialize)]
struct Made {
    #[serde(default)]
    key: Option<String>,
}

/// What `token` holds, if it was signed with `secret` and is valid at `now`.
pub(super) fn read(token: &str, secret: &[u8], now: Timestamp) -> Option<Held> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&signature).ok()?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != "HS256" || header.crit.is_some() {
        return None;
    }
    claims(&URL_SAFE_NO_PAD.decode(payload).ok()?, now)
}

/// What is meant by what was signed, if it is valid at `now`.
pub(super) fn claims(payload: &[u8], now: Timestamp) -> Option<Held> {
    let claims: Claims = serde_json::from_slice(payload).ok()?;
    let (begins, expires) = (claims.nbf.map(time), claims.exp.map(time));
    if begins.is_some_and(|begins| now < begins) || expires.is_some_and(|expires| now >= expires) {
        return None;
    }
    let key = claims.token.and_then(|made| made.key);
    Some(Held {
        user: claims.name,
        key: key.filter(|key| !key.is_empty()),
        proof: ProofOfUser::Signature {
            issued: claims.iat.map(time),
            expires,
        },
    })
}

/// A number of seconds since the Unix epoch.
fn time(seconds: f64) -> Timestamp {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is out of range is the first or the last time that there is"
    )]
    Timestamp::from_unix_millis((seconds * 1000.0) as i64)
}
