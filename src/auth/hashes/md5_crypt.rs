//! MD5-crypt, as old Unixes and Apache have it: a thousand rounds of MD5.

use md5::{Digest as _, Md5};

use super::is_same;

/// What Apache mixes in.
pub(super) const APACHE: &[u8] = b"$apr1$";
/// What Unix mixes in.
pub(super) const UNIX: &[u8] = b"$1$";

const ROUNDS: usize = 1000;
const MAX_SALT: usize = 8;
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The order in which the bytes of the digest are written, three at a time.
const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];

/// Whether `password` has the hash whose `rest` stands behind the mark: `salt$digest`.
pub(super) fn verify(password: &[u8], mark: &[u8], rest: &str) -> bool {
    let Some((salt, expected)) = rest.split_once('$') else {
        return false;
    };
    let salt = salt.as_bytes();
    let salt = salt.get(..MAX_SALT).unwrap_or(salt);
    is_same(&digest(password, mark, salt), expected.as_bytes())
}

fn digest(password: &[u8], mark: &[u8], salt: &[u8]) -> Vec<u8> {
    let inner = md5(&[password, salt, password]);
    let mut first = Md5::new();
    for part in [password, mark, salt] {
        first.update(part);
    }
    for piece in password.chunks(inner.len()) {
        first.update(&inner[..piece.len()]);
    }
    let mut length = password.len();
    while length > 0 {
        first.update(if length & 1 == 1 {
            &[0]
        } else {
            &password[..1]
        });
        length >>= 1;
    }
    let mut state: [u8; 16] = first.finalize().into();
    for round in 0..ROUNDS {
        let is_odd = round % 2 == 1;
        let parts: [&[u8]; 4] = [
            if is_odd { password } else { &state },
            if round % 3 == 0 { &[] } else { salt },
            if round % 7 == 0 { &[] } else { password },
            if is_odd { &state } else { password },
        ];
        state = md5(&parts);
    }
    encode(&state)
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

fn encode(digest: &[u8; 16]) -> Vec<u8> {
    let mut text = Vec::with_capacity(22);
    for [high, middle, low] in ORDER {
        let value = [high, middle, low].map(|index| u32::from(digest[index]));
        put(&mut text, value[0] << 16 | value[1] << 8 | value[2], 4);
    }
    put(&mut text, digest[11].into(), 2);
    text
}

/// Writes `count` digits of `value`, the lowest first.
fn put(text: &mut Vec<u8>, value: u32, count: usize) {
    for index in 0..count {
        let digit = value >> (6 * index) & 0x3f;
        text.push(DIGITS[digit as usize]);
    }
}
