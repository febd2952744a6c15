//! Tokens that hold the password: AES-256 in counter mode, with nothing that would show whether somebody has
//! changed them. What comes out is believed as far as the password in it is right.

use aes::{
    Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ctr::Ctr128BE;
use serde::Deserialize;

use super::{Held, ProofOfUser};

/// What a token holds that a user made; one of a login is `user:password`.
///
/// Who has such a token knows all of it but the password, and so can write something else in place of the
/// key. One without a key is none, therefore, and the list has to know how the token looks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    user: String,
    password: String,
    token_key: String,
}

/// What `token` holds, if it is base64 of two hexadecimal numbers with a colon between them: the first
/// counter, and what is encrypted. Written in any other way than Verdaccio does, it is none: what is revoked
/// is known by its text.
pub(super) fn read(token: &str, secret: &[u8]) -> Option<Held> {
    let text = STANDARD.decode(token).ok()?;
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
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
    if text.starts_with('{') {
        let made: Made = serde_json::from_str(text).ok()?;
        return Some(Held {
            key: Some(made.token_key),
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
