//! Tokens that Verdaccio 6.10.4 made: nobody has to log in again.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use rustaccio::lifecycle::Clock as _;
use serde_json::{Value, json};

use super::{Folder, HASH, PASSWORD, SECRET, Scene};
use crate::support::{Package, User};

const OF_A_LOGIN: &str =
    "MGMyYTlkOGE2MmQ2NzZmMjEwYTM3ZjAxOTg0ODhhMWY6MzEwNjNhYjdhYjhlZWQwMTc4YWIwNjMwNzkyYWRkNGM=";
const MADE_BY_HER: &str = "NDY0ZDg3ZmFmOTI1MDg5Yjc2YTU1YzJiM2ZiZmVlMzg6ZDM5Nzk3YTZhYzk1ZWZkZjA1N2Y1NjBiNDg0NDZhYTFlYzUzNDEyNjAyNzMzNDY0ZTUzOGZmMTk3MDU3MjQ4NDA1Yjg5ZWE4ZjM4NTFmZjY2NmY2YzgyYmQ4NTUwNTIwYzQ3MzkxMDdkZjNlNzRlY2Q4OGY3NTMyNGVlMTZkNmE0MDgwMWExYjEyYTg0Nzk0MjZjNjUyZTFlMDI0OTU5YWYxNTI0M2ZkNmI2Nw==";
const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZWFsX2dyb3VwcyI6WyJhbGljZSJdLCJuYW1lIjoiYWxpY2UiLCJncm91cHMiOlsiYWxpY2UiLCIkYWxsIiwiJGF1dGhlbnRpY2F0ZWQiLCJAYWxsIiwiQGF1dGhlbnRpY2F0ZWQiLCJhbGwiXSwiaWF0IjoxNzk1NzMwMDYwLCJuYmYiOjE3OTU3MzAwNjAsImV4cCI6MTc5ODIzNTY2MH0.0USlZBXA6U5kty0s8T3X7y66lDzrSA8x6JYkMCpC0Pk";
const JWT_MADE_BY_HER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZWFsX2dyb3VwcyI6WyJhbGljZSJdLCJuYW1lIjoiYWxpY2UiLCJncm91cHMiOlsiYWxpY2UiLCIkYWxsIiwiJGF1dGhlbnRpY2F0ZWQiLCJAYWxsIiwiQGF1dGhlbnRpY2F0ZWQiLCJhbGwiXSwidG9rZW4iOnsia2V5IjoiM2MxZTU4YjRmOWEwNGQ3ZThhMmI2YzVkNGUzZjJhMWIifSwiaWF0IjoxNzk1NzMwMDYwLCJuYmYiOjE3OTU3MzAwNjAsImV4cCI6MTc5ODIzNTY2MH0.qXI_oCs00q9EwA0svDuCwo8RO-mocX-Og2S-w1uf_XY";
const ALL: [&str; 4] = [OF_A_LOGIN, MADE_BY_HER, JWT, JWT_MADE_BY_HER];
const KEY: &str = "3c1e58b4f9a04d7e8a2b6c5d4e3f2a1b";

fn listed(readonly: bool, cidr: &[&str]) -> String {
    let token = json!({
        "user": "alice", "token": "NDY0Z...Nw==", "key": KEY,
        "cidr": cidr, "readonly": readonly, "created": 1_795_730_060_000_i64,
    });
    let other = json!({ "user": "bob", "token": "abcde...fghij", "key": "k", "cidr": [] });
    json!({ "alice": [token], "bob": [other] }).to_string()
}

async fn scene(tokens: &str) -> Scene {
    let users = format!("alice:{HASH}\nbob:{{PLAIN}}secret\n");
    Scene::of(Folder {
        users: &users,
        tokens,
        secret: SECRET,
    })
    .await
}

fn bearer(token: &str) -> User {
    User {
        token: token.to_owned(),
    }
}

/// A token as Verdaccio would sign it.
fn signed(claims: &Value) -> String {
    let [header, claims] = [&json!({ "alg": "HS256", "typ": "JWT" }), claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{header}.{claims}").as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{header}.{claims}.{signature}")
}

#[tokio::test]
async fn both_kinds_work_alone_and_in_the_place_of_the_password() {
    let scene = scene(&listed(false, &[])).await;
    for token in ALL {
        let known = scene.whoami(token).await.assert(200);
        assert_eq!(known.json()["username"], "alice");
        for (user, status) in [("alice", 200), ("bob", 401)] {
            let request = scene.registry.request(Method::GET, "/-/whoami");
            let request = request.basic_auth(user, Some(token));
            scene.registry.send(request).await.assert(status);
        }
    }
    let package = Package::new("mine", "1.0.0");
    let published = scene.registry.publish(&bearer(JWT), &package).await;
    published.assert(201);
    // Their time ends.
    scene.clock.advance(Duration::from_secs(30 * 86_400));
    scene.whoami(OF_A_LOGIN).await.assert(200);
    scene.whoami(JWT).await.assert(401);
}

#[tokio::test]
async fn without_the_secret_or_the_user_they_are_nothing() {
    let secret_of_before = "0123456789abcdef".repeat(4);
    for (secret, users) in [
        ("", format!("alice:{HASH}\n")),
        (&*secret_of_before, format!("alice:{HASH}\n")),
        (
            "FEDCBA98765432100123456789abcdef",
            format!("alice:{HASH}\n"),
        ),
        (SECRET, "bob:{PLAIN}secret\n".to_owned()),
    ] {
        let scene = Scene::of(Folder {
            users: &users,
            tokens: &listed(false, &[]),
            secret,
        })
        .await;
        for token in ALL {
            scene.whoami(token).await.assert(401);
        }
    }
    let scene = scene("").await;
    std::fs::write(scene.path("htpasswd"), "bob:{PLAIN}secret\n").unwrap();
    for token in ALL {
        scene.whoami(token).await.assert(401);
    }
}

#[tokio::test]
async fn those_that_she_made_are_listed_and_revoked_in_verdaccios_list() {
    for revoke_by in [KEY, &KEY[..8], MADE_BY_HER, JWT_MADE_BY_HER] {
        let scene = scene(&listed(false, &[])).await;
        let alice = scene.sign_in("alice", PASSWORD).await;
        let bob = scene.sign_in("bob", "secret").await;
        let path = "/-/npm/v1/tokens";
        let list = scene.registry.get_as(&alice, path).await.assert(200).json();
        let find = |list: &Value| -> Option<Value> {
            let mut tokens = list["objects"].as_array().unwrap().iter();
            tokens.find(|token| token["key"] == KEY).cloned()
        };
        let found = find(&list).unwrap();
        // By how it begins, npm finds out which one somebody types.
        assert!(MADE_BY_HER.starts_with(found["token"].as_str().unwrap()));
        assert_eq!(found["readonly"], false);
        let path = format!("/-/npm/v1/tokens/token/{revoke_by}");
        scene.registry.delete(&bob, &path).await.assert(200);
        scene.whoami(MADE_BY_HER).await.assert(200);
        scene.registry.delete(&alice, &path).await.assert(200);
        scene.whoami(MADE_BY_HER).await.assert(401);
        scene.whoami(JWT_MADE_BY_HER).await.assert(401);
        scene.whoami(OF_A_LOGIN).await.assert(200);
        let left: Value = serde_json::from_str(&scene.text(".token-db.json")).unwrap();
        assert_eq!(left["alice"], json!([]));
        assert_eq!(left["bob"][0]["key"], "k");
    }
}

#[tokio::test]
async fn their_limits_hold() {
    let scene = scene(&listed(true, &["127.0.0.0/8", "::1"])).await;
    for token in [MADE_BY_HER, JWT_MADE_BY_HER] {
        scene.whoami(token).await.assert(200);
        let package = Package::new("mine", "1.0.0");
        let refused = scene.registry.publish(&bearer(token), &package).await;
        assert_eq!(refused.status, 403);
    }
    for networks in [&["10.0.0.0/8"][..], &["everywhere"]] {
        std::fs::write(scene.path(".token-db.json"), listed(false, networks)).unwrap();
        for token in [MADE_BY_HER, JWT_MADE_BY_HER] {
            scene.whoami(token).await.assert(401);
        }
    }
    std::fs::write(scene.path(".token-db.json"), "{ damaged").unwrap();
    scene.whoami(MADE_BY_HER).await.assert(401);
    scene.whoami(JWT).await.assert(200);
}

/// [`MADE_BY_HER`] with `new` in the place of `old`, by somebody who knows what stands there and not the
/// secret.
fn forged(old: &str, new: &str) -> String {
    assert_eq!(old.len(), new.len());
    let plain = format!(r#"{{"user":"alice","password":"{PASSWORD}","tokenKey":"{KEY}"}}"#);
    let text = String::from_utf8(STANDARD.decode(MADE_BY_HER).unwrap()).unwrap();
    let (counter, encrypted) = text.split_once(':').unwrap();
    let mut bytes = hex::decode(encrypted).unwrap();
    assert_eq!(bytes.len(), plain.len());
    let at = plain.find(old).unwrap();
    for (index, (old, new)) in old.bytes().zip(new.bytes()).enumerate() {
        bytes[at + index] ^= old ^ new;
    }
    STANDARD.encode(format!("{counter}:{}", hex::encode(bytes)))
}

/// They are encrypted, and nothing shows whether somebody has changed them.
#[tokio::test]
async fn one_that_only_reads_cannot_be_made_into_another() {
    const OTHER: &str = "00000000000000000000000000000000";
    let mut list: Value = serde_json::from_str(&listed(true, &[])).unwrap();
    let whole = json!({ "user": "alice", "token": "QUJDR...Zg==", "key": OTHER, "cidr": [], "readonly": false });
    list["alice"].as_array_mut().unwrap().push(whole);
    let scene = scene(&list.to_string()).await;
    scene.whoami(&forged(KEY, KEY)).await.assert(200);
    let member = format!(r#","tokenKey":"{KEY}""#);
    for (old, new) in [
        (KEY, OTHER.to_owned()),
        ("tokenKey", "tokenkey".to_owned()),
        (&member, " ".repeat(member.len())),
        (KEY, format!(r#"",{}"x":""#, " ".repeat(25))),
    ] {
        scene.whoami(&forged(old, &new)).await.assert(401);
    }
    // Written otherwise, it would be another than the one that is ended.
    let bearer = bearer(MADE_BY_HER);
    let path = format!("/-/user/token/{}", MADE_BY_HER.replace('=', "%3D"));
    scene.registry.delete(&bearer, &path).await.assert(200);
    let text = String::from_utf8(STANDARD.decode(MADE_BY_HER).unwrap()).unwrap();
    for other in [
        MADE_BY_HER.to_owned(),
        MADE_BY_HER.trim_end_matches('=').to_owned(),
        STANDARD.encode(text.to_ascii_uppercase()),
    ] {
        scene.whoami(&other).await.assert(401);
    }
}

#[tokio::test]
async fn a_new_password_ends_them() {
    let scene = scene(&listed(false, &[])).await;
    let alice = scene.sign_in("alice", PASSWORD).await;
    scene.clock.advance(Duration::from_secs(60));
    let changed = scene.change_password(&alice, PASSWORD, "another").await;
    changed.assert(200);
    for token in ALL {
        scene.whoami(token).await.assert(401);
    }
    // One that Verdaccio signed after that, when it was started again.
    let now = scene.clock.now().unix_millis() / 1000 + 1;
    scene.clock.advance(Duration::from_secs(1));
    let later = signed(&json!({ "name": "alice", "iat": now, "nbf": now }));
    scene.whoami(&later).await.assert(200);
}

#[tokio::test]
async fn a_logout_ends_one_alone() {
    let scene = scene(&listed(false, &[])).await;
    for (index, token) in ALL.iter().enumerate() {
        let path = format!("/-/user/token/{}", token.replace('=', "%3D"));
        let out = scene.registry.delete(&bearer(token), &path).await;
        out.assert(200);
        scene.whoami(token).await.assert(401);
        // Once more does not bring it back.
        let out = scene.registry.delete(&bearer(token), &path).await;
        out.assert(200);
        scene.whoami(token).await.assert(401);
        for other in &ALL[index + 1..] {
            scene.whoami(other).await.assert(200);
        }
    }
    let state = scene.text(".rustaccio/state.json");
    for token in ALL {
        assert!(!state.contains(token.trim_end_matches('=')), "{state}");
    }
    let alice = scene.sign_in("alice", PASSWORD).await;
    let list = scene.registry.get_as(&alice, "/-/npm/v1/tokens").await;
    // Hers, and the one in Verdaccio's list, which nobody has revoked there.
    assert_eq!(list.json()["total"], 2);
}

#[tokio::test]
async fn groups_in_a_token_give_no_rights() {
    let scene = scene("").await;
    let groups = ["bob", "admins"];
    let claims = json!({ "name": "alice", "iat": 1, "groups": groups, "real_groups": groups });
    let token = signed(&claims);
    let package = Package::new("@bobs/package", "1.0.0");
    let refused = scene.registry.publish(&bearer(&token), &package).await;
    assert_eq!(refused.status, 403);
    let known = scene.whoami(&token).await.assert(200);
    assert_eq!(known.json()["username"], "alice");
    let private = json!({ "name": "", "groups": ["alice"], "iat": 1 });
    scene.whoami(&signed(&private)).await.assert(401);
    scene
        .whoami(&signed(&json!({ "groups": ["alice"] })))
        .await
        .assert(401);
}

#[tokio::test]
async fn with_a_second_factor_a_password_in_a_token_is_not_enough() {
    let scene = scene(&listed(false, &[])).await;
    scene.sign_in("alice", PASSWORD).await;
    let clock = scene.clock;
    let folder = scene.registry.stop().await;
    let path = folder.path().join("data/.rustaccio/state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state["users"]["alice"] = json!({
        "password_hash": "", "created_at": 1,
        "second_factor": { "mode": "auth-and-writes", "seed": "", "recovery": [] },
    });
    std::fs::write(&path, state.to_string()).unwrap();
    let scene = Scene::start(folder, clock).await;
    scene.whoami(OF_A_LOGIN).await.assert(401);
    scene.whoami(MADE_BY_HER).await.assert(401);
    // Of one that Verdaccio signed, as of one of ours, reading asks for nothing more.
    scene.whoami(JWT).await.assert(200);
    let package = Package::new("mine", "1.0.0");
    let refused = scene.registry.publish(&bearer(JWT), &package).await;
    assert_eq!(refused.status, 401);
}
