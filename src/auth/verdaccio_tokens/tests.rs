//! Tokens that Verdaccio 6.10.4 made are read; whatever has changed on the way is not.

use proptest::prelude::*;

use super::*;

/// With this secret, at [`MADE`], for `alice` with the password `pass:wörd`.
const SECRET: &[u8; 32] = b"0123456789abcdefFEDCBA9876543210";
const MADE: i64 = 1_795_730_060_000;
const KEY: &str = "3c1e58b4f9a04d7e8a2b6c5d4e3f2a1b";

const OF_A_LOGIN: &str =
    "MGMyYTlkOGE2MmQ2NzZmMjEwYTM3ZjAxOTg0ODhhMWY6MzEwNjNhYjdhYjhlZWQwMTc4YWIwNjMwNzkyYWRkNGM=";
const MADE_BY_HER: &str = "NDY0ZDg3ZmFmOTI1MDg5Yjc2YTU1YzJiM2ZiZmVlMzg6ZDM5Nzk3YTZhYzk1ZWZkZjA1N2Y1NjBiNDg0NDZhYTFlYzUzNDEyNjAyNzMzNDY0ZTUzOGZmMTk3MDU3MjQ4NDA1Yjg5ZWE4ZjM4NTFmZjY2NmY2YzgyYmQ4NTUwNTIwYzQ3MzkxMDdkZjNlNzRlY2Q4OGY3NTMyNGVlMTZkNmE0MDgwMWExYjEyYTg0Nzk0MjZjNjUyZTFlMDI0OTU5YWYxNTI0M2ZkNmI2Nw==";
const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZWFsX2dyb3VwcyI6WyJhbGljZSJdLCJuYW1lIjoiYWxpY2UiLCJncm91cHMiOlsiYWxpY2UiLCIkYWxsIiwiJGF1dGhlbnRpY2F0ZWQiLCJAYWxsIiwiQGF1dGhlbnRpY2F0ZWQiLCJhbGwiXSwiaWF0IjoxNzk1NzMwMDYwLCJuYmYiOjE3OTU3MzAwNjAsImV4cCI6MTc5ODIzNTY2MH0.0USlZBXA6U5kty0s8T3X7y66lDzrSA8x6JYkMCpC0Pk";
const JWT_MADE_BY_HER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZWFsX2dyb3VwcyI6WyJhbGljZSJdLCJuYW1lIjoiYWxpY2UiLCJncm91cHMiOlsiYWxpY2UiLCIkYWxsIiwiJGF1dGhlbnRpY2F0ZWQiLCJAYWxsIiwiQGF1dGhlbnRpY2F0ZWQiLCJhbGwiXSwidG9rZW4iOnsia2V5IjoiM2MxZTU4YjRmOWEwNGQ3ZThhMmI2YzVkNGUzZjJhMWIifSwiaWF0IjoxNzk1NzMwMDYwLCJuYmYiOjE3OTU3MzAwNjAsImV4cCI6MTc5ODIzNTY2MH0.qXI_oCs00q9EwA0svDuCwo8RO-mocX-Og2S-w1uf_XY";
const ENDLESS_JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZWFsX2dyb3VwcyI6WyJhbGljZSJdLCJuYW1lIjoiYWxpY2UiLCJncm91cHMiOlsiYWxpY2UiLCIkYWxsIiwiJGF1dGhlbnRpY2F0ZWQiLCJAYWxsIiwiQGF1dGhlbnRpY2F0ZWQiLCJhbGwiXSwiaWF0IjoxNzk1NzMwMDYwLCJuYmYiOjE3OTU3MzAwNjB9.Bi1z8exBGIT3QOSrdP3LVqzEQer3n5JROninG2laXIY";
/// Signed with SHA-512, which Verdaccio does not do unless it is told to.
const OTHER_JWT: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJyZWFsX2dyb3VwcyI6WyJhbGljZSJdLCJuYW1lIjoiYWxpY2UiLCJncm91cHMiOlsiYWxpY2UiLCIkYWxsIiwiJGF1dGhlbnRpY2F0ZWQiLCJAYWxsIiwiQGF1dGhlbnRpY2F0ZWQiLCJhbGwiXSwiaWF0IjoxNzk1NzMwMDYwLCJuYmYiOjE3OTU3MzAwNjB9.UGpHahGrfYZT3_0ykz2dKXvcmZi4hMivbf8VgkmFYxlT3zqmcXAYp4MQnT-enyjrBhuViHlIC8S_a-Umnv_nfQ";

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(milliseconds)
}

fn signed(token: &str, now: i64) -> Option<Held> {
    signed::read(token, SECRET, at(now))
}

#[test]
fn encrypted_ones_hold_the_password() {
    for (token, key) in [(OF_A_LOGIN, None), (MADE_BY_HER, Some(KEY))] {
        {
            let held = encrypted::read(token, SECRET).unwrap();
            assert_eq!((&*held.user, held.key.as_deref()), ("alice", key));
            let ProofOfUser::Password(password) = &held.proof else {
                panic!("{held:?}");
            };
            assert_eq!(password.expose_secret(), "pass:wörd");
            assert!(!format!("{held:?}").contains("wörd"));
        }
    }
    assert!(encrypted::read(OF_A_LOGIN, &[b'x'; 32]).is_none_or(|held| held.user != "alice"));
    assert!(encrypted::read(OF_A_LOGIN, &[b'x'; 64]).is_none());
    assert!(encrypted::read(JWT, SECRET).is_none());
}

#[test]
fn what_was_encrypted_is_as_verdaccio_writes_it() {
    let held = |text: &str| encrypted::held(text.as_bytes());
    assert!(held(r#"{"user":"a","password":"b"}"#).is_none());
    assert!(held(r#"{"user":"a","password":"b","tokenKey":null}"#).is_none());
    assert_eq!(
        held(r#"{"user":"a","password":"b","tokenKey":""}"#)
            .unwrap()
            .key
            .unwrap(),
        ""
    );
    assert!(encrypted::read(MADE_BY_HER.trim_end_matches('='), SECRET).is_none());
}

#[test]
fn signed_ones_hold_a_name_and_their_time() {
    for (token, key, expires) in [
        (JWT, None, Some(at(1_798_235_660_000))),
        (JWT_MADE_BY_HER, Some(KEY), Some(at(1_798_235_660_000))),
        (ENDLESS_JWT, None, None),
    ] {
        let held = signed(token, MADE).unwrap();
        assert_eq!((&*held.user, held.key.as_deref()), ("alice", key));
        let ProofOfUser::Signature {
            issued,
            expires: found,
        } = held.proof
        else {
            panic!("{held:?}");
        };
        assert_eq!((issued, found), (Some(at(MADE)), expires));
        assert!(signed(token, MADE - 1).is_none(), "it has not begun");
    }
    assert!(signed(JWT, 1_798_235_659_999).is_some());
    assert!(signed(JWT, 1_798_235_660_000).is_none());
    assert!(signed(ENDLESS_JWT, i64::MAX).is_some());
    assert!(signed(OTHER_JWT, MADE).is_none());
    assert!(signed::read(JWT, &[b'x'; 32], at(MADE)).is_none());
    assert!(signed(OF_A_LOGIN, MADE).is_none());
}

#[test]
fn none_is_no_signature() {
    let (_, payload) = JWT.split_once('.').unwrap();
    let payload = payload.split('.').next().unwrap();
    // {"alg":"none"}
    for token in [
        format!("eyJhbGciOiJub25lIn0.{payload}."),
        format!("eyJhbGciOiJub25lIn0.{payload}"),
        format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{payload}."),
    ] {
        assert!(signed(&token, MADE).is_none(), "{token}");
    }
}

proptest! {
    #[test]
    fn anything_can_be_read(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        fuzz(text.as_bytes());
        fuzz(&bytes);
        let made = serde_json::json!({ "user": text, "password": text, "tokenKey": text });
        fuzz(made.to_string().as_bytes());
    }

    #[test]
    fn a_signed_one_is_whole_or_none(place in 0..JWT.len(), character in "[A-Za-z0-9._-]") {
        let mut token = JWT.to_owned();
        token.replace_range(place..=place, &character);
        // The last character has bits that mean nothing, and must be zero.
        prop_assert_eq!(signed(&token, MADE).is_some(), token == JWT);
    }
}
