//! Tokens that hold the password: AES-256 in counter mode, with nothing that would show whether somebody has
//! changed them. What comes out is believed as far as the password in it is right.

use aes::{
    Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ctr::Ctr128BE;
use serde::Deserialize;

use super::{Held, ProofOfUser};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);

/// What a token holds that a user made; one of a login is `user:password`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    user: String,
    password: String,
    #[serde(default)]
    token_key: Option<serde_json::Value>,
}

/// What `token` holds, if it is base64 of two hexadecimal numbers with a colon between them: the first
/// counter, and what is encrypted.
pub(super) fn read(token: &str, secret: &[u8]) -> Option<Held> {
    let text = BASE64.decode(token).ok()?;
    let (counter, encrypted) = std::str::from_utf8(&text).ok()?.split_once(':')?;
    let counter = hex::decode(counter).ok()?;
    let mut bytes = hex::decode(encrypted).ok()?;
    let mut cipher = Ctr128BE::<Aes256>::new_from_slices(secret, &counter).ok()?;
    cipher.try_apply_keystream(&mut bytes).ok()?;
    held(&bytes)
}

/// What is meant by what was encrypted.
pub(super) fn held(bytes: &[u8]) -> Option<Held> {
    let text = std::str::from_utf8(bytes).ok()?;
    let made = text
        .starts_with('{')
        .then(|| serde_json::from_str::<Made>(text));
    if let Some(Ok(made)) = made {
        let key = made.token_key.as_ref().and_then(serde_json::Value::as_str);
        return Some(Held {
            key: key.filter(|key| !key.is_empty()).map(str::to_owned),
            user: made.user,
            proof: ProofOfUser::Password(made.password.into()),
        });
    }
    let (user, password) = text.split_once(':')?;
    Some(Held {
        user: user.to_owned(),
        key: None,
        proof: ProofOfUser::Password(password.into()),
    })
}
