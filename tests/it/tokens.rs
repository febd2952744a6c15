//! Tokens that users make for themselves: limits, ends, listing, revocation.

use std::time::Duration;

use reqwest::Method;
use rustaccio::{lifecycle::ManualClock, models::Timestamp};
use serde_json::{Value, json};

use crate::support::{Package, Registry, User};

async fn create(registry: &Registry, user: &User, wish: Value) -> Value {
    let path = "/-/npm/v1/tokens";
    let answer = registry
        .send_json(Some(user), Method::POST, path, &wish)
        .await;
    answer.assert(200).json()
}

fn holder(token: &Value) -> User {
    User {
        token: token["token"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
pub(crate) async fn tokens_are_made_listed_and_revoked() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let old = json!({ "password": "password", "readonly": false, "cidr_whitelist": [] });
    let token = create(&registry, &alice, old).await;
    let holder = holder(&token);
    registry.get_as(&holder, "/-/whoami").await.assert(200);
    let list = registry
        .get_as(&alice, "/-/npm/v1/tokens")
        .await
        .assert(200);
    let list = list.json();
    assert_eq!(list["objects"].as_array().unwrap().len(), 2);
    let listed = list.to_string();
    assert!(!listed.contains(&holder.token), "a listing shows a token");
    // Clients find the token that somebody types by how it begins.
    for object in list["objects"].as_array().unwrap() {
        let prefix = object["token"].as_str().unwrap();
        assert_eq!(prefix.len(), 8);
        let is_one = [&holder, &alice]
            .iter()
            .any(|one| one.token.starts_with(prefix));
        assert!(is_one, "{prefix}");
        assert!(object["cidr_whitelist"].is_null(), "npm 12 would print it");
    }
    let key = token["key"].as_str().unwrap();
    let path = format!("/-/npm/v1/tokens/token/{key}");
    registry.delete(&alice, &path).await.assert(200);
    registry.get_as(&holder, "/-/whoami").await.assert(401);
    let wrong = json!({ "password": "guess" });
    let path = "/-/npm/v1/tokens";
    let answer = registry
        .send_json(Some(&alice), Method::POST, path, &wrong)
        .await;
    answer.assert(401);
    let missing = registry
        .send_json(Some(&alice), Method::POST, path, &json!({}))
        .await;
    missing.assert(422);
    // As pnpm sends it.
    let empty = json!({ "password": "", "readonly": false });
    let empty = registry.send_json(Some(&alice), Method::POST, path, &empty);
    assert!(
        empty
            .await
            .assert(422)
            .error()
            .contains("needs your password")
    );
    let anonymous = registry.get(path).await.assert(401);
    assert_eq!(anonymous.error(), "no credentials provided");
}

#[tokio::test]
pub(crate) async fn a_token_is_revoked_by_its_key_its_beginning_and_itself() {
    let registry = Registry::alone().await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    for revoke_by in [
        (|token| token["key"].as_str().unwrap()) as fn(&Value) -> &str,
        |token| &token["key"].as_str().unwrap()[..12],
        |token| token["token"].as_str().unwrap(),
    ] {
        let token = create(&registry, &alice, json!({ "password": "password" })).await;
        let path = format!("/-/npm/v1/tokens/token/{}", revoke_by(&token));
        registry.delete(&bob, &path).await.assert(200);
        registry
            .get_as(&holder(&token), "/-/whoami")
            .await
            .assert(200);
        registry.delete(&alice, &path).await.assert(200);
        registry
            .get_as(&holder(&token), "/-/whoami")
            .await
            .assert(401);
    }
    registry.get_as(&alice, "/-/whoami").await.assert(200);
}

#[tokio::test]
pub(crate) async fn a_token_ends_when_it_shall() {
    let now = Timestamp::parse_rfc3339("2026-01-02T12:00:00Z").unwrap();
    let clock = ManualClock::at(now);
    let registry = Registry::at(&clock, &[("RUSTACCIO_AUTH_TOKEN_TTL_SECS", "0")]).await;
    let alice = registry.user("alice").await;
    let short = json!({ "password": "password", "expires": 1 });
    let short = create(&registry, &alice, short).await;
    assert_eq!(short["expires"], "2026-01-03T12:00:00.000Z");
    let long = json!({ "password": "password", "expires": u32::MAX });
    let long = create(&registry, &alice, long).await;
    assert_eq!(long["expires"], "9999-12-31T23:59:59.999Z");
    clock.advance(Duration::from_secs(86_399));
    registry
        .get_as(&holder(&short), "/-/whoami")
        .await
        .assert(200);
    clock.advance(Duration::from_secs(1));
    registry
        .get_as(&holder(&short), "/-/whoami")
        .await
        .assert(401);
    registry
        .get_as(&holder(&long), "/-/whoami")
        .await
        .assert(200);
    registry.get_as(&alice, "/-/whoami").await.assert(200);
}

#[tokio::test]
pub(crate) async fn a_wish_for_limits_never_makes_a_token_without() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let ask = async |wish: Value| {
        let mut body = json!({ "password": "password", "name": "ci" });
        body.as_object_mut()
            .unwrap()
            .extend(wish.as_object().unwrap().clone());
        let path = "/-/npm/v1/tokens";
        registry
            .send_json(Some(&alice), Method::POST, path, &body)
            .await
    };
    for wish in [
        json!({ "orgs": ["acme"], "orgs_permission": "read-only" }),
        json!({ "orgs": ["acme"] }),
        json!({ "orgs_permission": "read-write", "packages_all": true }),
        json!({ "orgs_permission": "no-access" }),
        json!({ "packages_all": false }),
        json!({ "packages_all": true, "packages": ["mine"] }),
        json!({ "packages_and_scopes_permission": "no-access" }),
        json!({ "packages_and_scopes_permission": "read-write-stage-only" }),
        json!({ "packages_and_scopes_permission": "something new" }),
        json!({ "packages": ["not/a/name"] }),
    ] {
        let refused = ask(wish.clone()).await;
        assert_eq!(refused.status, 422, "{wish}");
        assert_eq!(refused.json()["code"], "STORAGE_UNPROCESSABLE");
    }
    for (wish, readonly, packages) in [
        (json!({ "packages_all": true }), false, json!([])),
        (
            json!({ "packages_all": true, "packages_and_scopes_permission": "read-only",
                    "orgs_permission": "no-access" }),
            true,
            json!([]),
        ),
        (
            json!({ "packages": ["mine"], "packages_and_scopes_permission": "read-write" }),
            false,
            json!(["mine"]),
        ),
        (
            json!({ "packages_and_scopes_permission": "read-write", "readonly": true }),
            true,
            json!([]),
        ),
    ] {
        let made = ask(wish).await.assert(200).json();
        assert_eq!(
            (&made["readonly"], &made["packages"]),
            (&json!(readonly), &packages)
        );
    }
}

#[tokio::test]
pub(crate) async fn a_limited_token_reads_what_anybody_may() {
    let file = "packages:\n  '@acme/*':\n    access: $authenticated\n    publish: $authenticated\n  \
                '**':\n    access: $all\n    publish: $authenticated\n";
    let registry = Registry::with_file(file).await;
    let alice = registry.user("alice").await;
    for name in ["open", "@acme/private", "@acme/other"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    let wish = json!({ "password": "password", "packages": ["@acme/private"] });
    let limited = holder(&create(&registry, &alice, wish).await);
    for path in ["/open", "/open/-/open-1.0.0.tgz", "/@acme%2fprivate"] {
        registry.get_as(&limited, path).await.assert(200);
    }
    let refused = registry.get_as(&limited, "/@acme%2fother").await;
    assert_eq!(
        refused.assert(403).error(),
        "user alice is not allowed to access package @acme/other with a token that is limited to \
         others"
    );
    registry.get("/@acme%2fprivate").await.assert(401);
    let found = registry.get_as(&limited, "/-/v1/search?text=").await;
    let found = found.assert(200).json().to_string();
    assert!(
        found.contains("@acme/private") && !found.contains("@acme/other"),
        "{found}"
    );
    let next = Package::new("open", "1.0.1");
    registry.publish(&limited, &next).await.assert(403);
    let next = Package::new("@acme/private", "1.0.1");
    registry.publish(&limited, &next).await.assert(201);
}

#[tokio::test]
pub(crate) async fn a_limited_token_finds_nothing_restricted() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("@acme/secret", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let restrict = json!({ "access": "restricted" });
    let path = "/-/package/@acme%2fsecret/access";
    let restricted = registry.send_json(Some(&alice), Method::POST, path, &restrict);
    restricted.await.assert(200);
    let wish = json!({ "password": "password", "scopes": ["@other"] });
    let limited = holder(&create(&registry, &alice, wish).await);
    for path in ["/-/v1/search?text=", "/-/all", "/-/user/alice/package"] {
        let all = registry.get_as(&alice, path).await.assert(200).json();
        assert!(all.to_string().contains("@acme/secret"), "{path}: {all}");
        let found = registry.get_as(&limited, path).await.assert(200).json();
        assert!(!found.to_string().contains("secret"), "{path}: {found}");
    }
    registry
        .get_as(&limited, "/@acme%2fsecret")
        .await
        .assert(404);
}

#[tokio::test]
pub(crate) async fn a_limited_token_changes_no_organisation() {
    let registry = Registry::start(&[("RUSTACCIO_ADMIN_USERS", "alice")]).await;
    let alice = registry.user("alice").await;
    let wish = json!({ "password": "password", "scopes": ["@acme"] });
    let limited = holder(&create(&registry, &alice, wish).await);
    let member = json!({ "user": "alice", "role": "owner" });
    let path = "/-/org/acme/user";
    registry.put(&limited, path, &member).await.assert(403);
    registry.put(&alice, path, &member).await.assert(200);
}

#[tokio::test]
pub(crate) async fn limits_of_tokens_hold() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("mine", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let readonly = json!({ "password": "password", "readonly": true });
    let reader = holder(&create(&registry, &alice, readonly).await);
    registry.get_as(&reader, "/mine").await.assert(200);
    let next = Package::new("mine", "1.0.1");
    registry.publish(&reader, &next).await.assert(403);
    let wish = json!({ "password": "password" });
    let path = "/-/npm/v1/tokens";
    let answer = registry
        .send_json(Some(&reader), Method::POST, path, &wish)
        .await;
    answer.assert(403);

    let elsewhere = json!({ "password": "password", "cidr_whitelist": ["10.1.0.0/16"] });
    let elsewhere = holder(&create(&registry, &alice, elsewhere).await);
    registry.get_as(&elsewhere, "/-/whoami").await.assert(401);
    let here = json!({ "password": "password", "cidr": ["127.0.0.0/8"] });
    let here = holder(&create(&registry, &alice, here).await);
    registry.get_as(&here, "/-/whoami").await.assert(200);
    let rubbish = json!({ "password": "password", "cidr": ["everywhere"] });
    let answer = registry
        .send_json(Some(&alice), Method::POST, path, &rubbish)
        .await;
    assert!(answer.status.is_client_error());

    let scoped = json!({ "password": "password", "name": "ci", "scopes": ["@acme"], "expires": 1 });
    let scoped = create(&registry, &alice, scoped).await;
    assert!(scoped["expires"].is_string());
    let scoped = holder(&scoped);
    registry.publish(&scoped, &next).await.assert(403);
    let allowed = Package::new("@acme/x", "1.0.0");
    registry.publish(&scoped, &allowed).await.assert(201);
}

/// Tokens as people make and end them: with a client, at a prompt.
#[cfg(feature = "test-clients")]
mod clients {
    use super::*;
    use crate::support::client::{Client, Turn};

    /// Runs `play`, which blocks, with a client that is signed in as alice.
    async fn with_client(name: &'static str, play: impl FnOnce(&Client) + Send + 'static) {
        let registry = Registry::alone().await;
        let alice = registry.user("alice").await;
        let url = registry.url.clone();
        let work = move || {
            let client = Client::new(name);
            client.configure(
                ".npmrc",
                &format!("registry={url}/\nupdate-notifier=false\n"),
            );
            client.sign_in_with(&url, &alice.token);
            play(&client);
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    }

    fn list(client: &Client) -> Vec<Value> {
        serde_json::from_str(&client.ok(&["token", "list", "--json"])).unwrap()
    }

    /// Makes a token, and the token that was printed.
    fn make(client: &Client, line: &str) -> String {
        let said = client.converse(line, vec![Turn::new("assword:", "password")]);
        let from = said.find("rca_").unwrap_or_else(|| panic!("{said}"));
        said[from..from + 52].to_owned()
    }

    fn makes_and_ends(client: &Client, line: &str, is_readonly: bool) {
        let token = make(client, line);
        let listed = list(client);
        let is_it = |listed: &&Value| token.starts_with(listed["token"].as_str().unwrap());
        let found: Vec<&Value> = listed.iter().filter(is_it).collect();
        assert_eq!((listed.len(), found.len()), (2, 1), "{listed:?}");
        assert_eq!(found[0]["readonly"], is_readonly);
        // By itself, and by the beginning of its key.
        client.ok(&["token", "revoke", &token]);
        assert_eq!(list(client).len(), 1);
        let token = make(client, line);
        let listed = list(client);
        let is_it = |listed: &&Value| token.starts_with(listed["token"].as_str().unwrap());
        let key = listed.iter().find(is_it).unwrap()["key"].as_str().unwrap();
        client.ok(&["token", "revoke", &key[..10]]);
        assert_eq!(list(client).len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12_makes_lists_and_ends_tokens() {
        with_client("npm-12", |npm| {
            makes_and_ends(npm, "token create --name=ci", false);
            let line = "token create --name=ci --packages=mine --scopes=@acme \
                        --packages-and-scopes-permission=read-only --orgs-permission=no-access \
                        --expires=30";
            makes_and_ends(npm, line, true);
            let line = "token create --name=ci --orgs=acme --orgs-permission=read-only";
            let (said, is_ok) = npm.talk(line, vec![Turn::new("assword:", "password")]);
            assert!(
                !is_ok && said.contains("limited to organisations"),
                "{said}"
            );
            assert_eq!(list(npm).len(), 1);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_12_lists_and_ends_tokens_and_hears_what_it_takes_to_make_one() {
        with_client("pnpm-12", |pnpm| {
            let said = pnpm.fails_in(pnpm.home(), &["token", "create"]);
            assert!(said.contains("needs your password"), "{said}");
            let listed = list(pnpm);
            assert_eq!(listed.len(), 1);
            let key = listed[0]["key"].as_str().unwrap();
            pnpm.ok(&["token", "revoke", key]);
            pnpm.fails_in(pnpm.home(), &["whoami"]);
        })
        .await;
    }

    /// They send the shape of before 2025.
    mod older {
        use super::*;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn npm_6_makes_lists_and_ends_tokens() {
            with_client("npm-6", |npm| {
                makes_and_ends(npm, "token create", false);
                makes_and_ends(npm, "token create --readonly --cidr=127.0.0.1/32", true);
            })
            .await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn npm_10_makes_lists_and_ends_tokens() {
            with_client("npm-10", |npm| {
                makes_and_ends(npm, "token create", false);
                makes_and_ends(npm, "token create --read-only", true);
            })
            .await;
        }
    }
}
