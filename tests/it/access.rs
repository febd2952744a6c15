//! What packages say about who may use them, and what callers hear of those that are hidden.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Package, Registry, User, publish_body, second_factor::with_second_factor,
};

const SECRET: &str = "/-/package/@acme%2fsecret/access";

async fn change(registry: &Registry, by: &User, path: &str, body: Value) -> Answer {
    registry
        .send_json(Some(by), Method::POST, path, &body)
        .await
}

/// A registry where alice has published `@acme/secret`.
async fn with_secret(variables: &[(&str, &str)]) -> (Registry, User) {
    let registry = Registry::start(variables).await;
    let alice = registry.user("alice").await;
    let package = Package::new("@acme/secret", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    (registry, alice)
}

async fn restrict(registry: &Registry, by: &User) {
    let restricted = json!({ "access": "restricted" });
    change(registry, by, SECRET, restricted).await.assert(200);
}

/// Publishes `@acme/secret` as a client that calls itself `agent`, with this `access`.
async fn publish(registry: &Registry, by: &User, version: &str, agent: &str, access: Value) {
    let mut body = publish_body(&Package::new("@acme/secret", version), "latest");
    if access == json!("absent") {
        body.as_object_mut().unwrap().remove("access");
    } else {
        body["access"] = access;
    }
    let request = registry
        .request(Method::PUT, "/@acme%2fsecret")
        .bearer_auth(&by.token)
        .header("user-agent", agent)
        .body(body.to_string());
    registry.send(request).await.assert(201);
}

async fn is_public(registry: &Registry) -> bool {
    let status = registry.get("/@acme%2fsecret").await.status;
    assert!(status == 200 || status == 404);
    status == 200
}

#[tokio::test]
pub(crate) async fn a_publish_changes_access_where_its_user_asked_for_it() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let npm = "npm/12.2.1 node/v24.21.0 linux x64 workspaces/false";
    let steps = [
        (npm, json!("restricted"), false),
        (npm, json!(null), false),
        (npm, json!("absent"), false),
        (npm, json!("public"), true),
        (npm, json!(null), true),
        // These say so of every scoped package.
        ("got (https://example.com)", json!("restricted"), true),
        (
            "lerna/8.1.9/node@v20.20.2+x64 (linux)",
            json!("restricted"),
            true,
        ),
        (
            "pnpm/12.21.0 npm/? node/? linux x64",
            json!("restricted"),
            false,
        ),
        ("got (https://example.com)", json!("public"), false),
        (
            "Bun/1.4.5 linux x64 workspaces/false",
            json!("public"),
            true,
        ),
        (
            "yarn/1.22.22 npm/? node/v20.20.2 linux x64",
            json!("restricted"),
            false,
        ),
    ];
    for (number, (agent, access, expected)) in steps.into_iter().enumerate() {
        let version = format!("1.0.{number}");
        publish(&registry, &alice, &version, agent, access.clone()).await;
        let found = is_public(&registry).await;
        assert_eq!(found, expected, "{agent} {access}");
    }
    let mut body = publish_body(&Package::new("app", "1.0.0"), "latest");
    body["access"] = json!("restricted");
    let request = registry
        .request(Method::PUT, "/app")
        .bearer_auth(&alice.token)
        .header("user-agent", npm)
        .body(body.to_string());
    let refused = registry.send(request).await.assert(400);
    assert_eq!(refused.error(), "only scoped packages can be restricted");
}

#[tokio::test]
pub(crate) async fn a_grant_outlives_a_publish() {
    let (registry, alice) = with_secret(&[("RUSTACCIO_ADMIN_USERS", "alice")]).await;
    let team = json!({ "name": "core" });
    let teams = "/-/org/acme/team";
    registry.put(&alice, teams, &team).await.assert(201);
    let path = "/-/team/acme/core/package";
    let grant = json!({ "package": "@acme/secret", "permissions": "read-only" });
    registry.put(&alice, path, &grant).await.assert(200);
    publish(
        &registry,
        &alice,
        "1.0.1",
        "npm/12.2.1",
        json!("restricted"),
    )
    .await;
    let granted = registry.get_as(&alice, path).await.assert(200);
    assert_eq!(granted.json(), json!({ "@acme/secret": "read" }));
}

#[tokio::test]
pub(crate) async fn the_two_encodings_are_one_package() {
    let (registry, alice) = with_secret(&[]).await;
    let path = "/-/package/%40acme%2Fsecret/access";
    let restricted = json!({ "access": "private" });
    change(&registry, &alice, path, restricted)
        .await
        .assert(200);
    let shown = registry.get_as(&alice, SECRET).await.assert(200);
    let expected = json!({
        "access": "restricted",
        "publish_requires_tfa": false,
        "automation_token_overrides_tfa": false,
    });
    assert_eq!(shown.json(), expected);
    let path = "/-/package/@acme/secret/visibility";
    let shown = registry.get_as(&alice, path).await.assert(200);
    assert_eq!(shown.json(), json!({ "public": false }));
}

#[tokio::test]
pub(crate) async fn collaborators_have_the_shape_that_each_client_reads() {
    let (registry, alice) = with_secret(&[]).await;
    let path = "/-/package/@acme%2fsecret/collaborators?format=cli";
    let ask = async |agent: &str| {
        let request = registry
            .request(Method::GET, path)
            .bearer_auth(&alice.token)
            .header("user-agent", agent);
        registry.send(request).await.assert(200).json()
    };
    for agent in ["npm/6.14.18 node/v20", "npm/12.2.1 node/v24", "curl/8"] {
        assert_eq!(ask(agent).await, json!({ "alice": "write" }), "{agent}");
    }
    let list = ask("pnpm/12.21.0 npm/? node/?").await;
    assert_eq!(list[0]["user"], "alice");
    assert_eq!(list[0]["permissions"], "write");
}

#[tokio::test]
pub(crate) async fn what_is_no_organisation_may_be_a_user() {
    let registry = Registry::alone().await;
    let user = registry.user("Alice.B").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&user, &package).await.assert(201);
    for name in ["Alice.B", "_", "a%20b", "nobody"] {
        let path = format!("/-/org/{name}/package");
        let answer = registry.get_as(&user, &path).await;
        assert_eq!(answer.status, 404, "{name}");
    }
    let path = "/-/user/Alice.B/package";
    let own = registry.get_as(&user, path).await.assert(200);
    assert_eq!(own.json(), json!({ "app": "write" }));
}

#[tokio::test]
pub(crate) async fn nobody_locks_a_package_without_a_key() {
    let (registry, alice) = with_secret(&[("RUSTACCIO_ADMIN_USERS", "root")]).await;
    let lock = json!({ "publish_requires_tfa": true, "automation_token_overrides_tfa": false });
    let refused = change(&registry, &alice, SECRET, lock.clone()).await;
    let why = refused.assert(403).error();
    assert!(why.contains("enable-2fa"), "{why}");
    let next = Package::new("@acme/secret", "1.0.1");
    registry.publish(&alice, &next).await.assert(201);
    // What is off may be turned off by anybody who may change the package.
    let unlock = json!({ "publish_requires_tfa": false });
    change(&registry, &alice, SECRET, unlock).await.assert(200);
    let stranger = registry.get("/-/package/@acme%2fsecret/access").await;
    assert_eq!(stranger.json()["publish_requires_tfa"], false);
}

async fn with_pass(registry: &Registry, by: &User, pass: &str, body: Value) -> Answer {
    let request = registry
        .request(Method::POST, SECRET)
        .bearer_auth(&by.token)
        .header("npm-otp", pass)
        .body(body.to_string());
    registry.send(request).await
}

#[tokio::test]
pub(crate) async fn whoever_has_the_key_locks_and_unlocks() {
    let variables = vec![("RUSTACCIO_ADMIN_USERS", "root".to_owned())];
    let (registry, alice) = with_secret(&[]).await;
    let bob = registry.user("bob").await;
    let codes = ["one", "two", "three"];
    let registry = with_second_factor(registry, variables, "alice", "auth-only", &codes).await;
    let lock = json!({ "publish_requires_tfa": true });
    let challenge = change(&registry, &alice, SECRET, lock.clone())
        .await
        .assert(401);
    assert_eq!(challenge.header("www-authenticate"), Some("OTP, otp"));
    change(&registry, &bob, SECRET, lock.clone())
        .await
        .assert(403);
    with_pass(&registry, &alice, "wrong", lock.clone())
        .await
        .assert(401);
    let locked = with_pass(&registry, &alice, "one", lock).await.assert(200);
    assert_eq!(locked.json()["publish_requires_tfa"], true);
    let next = Package::new("@acme/secret", "1.0.1");
    registry.publish(&alice, &next).await.assert(401);
    registry.publish(&bob, &next).await.assert(403);

    let unlock = json!({ "publish_requires_tfa": false });
    change(&registry, &alice, SECRET, unlock.clone())
        .await
        .assert(401);
    change(&registry, &bob, SECRET, unlock.clone())
        .await
        .assert(403);
    with_pass(&registry, &alice, "two", unlock.clone())
        .await
        .assert(200);
    registry.publish(&bob, &next).await.assert(201);

    let lock = json!({ "publish_requires_tfa": true });
    with_pass(&registry, &alice, "three", lock)
        .await
        .assert(200);
    let root = registry.user("root").await;
    let opened = change(&registry, &root, SECRET, unlock).await.assert(200);
    assert_eq!(opened.json()["publish_requires_tfa"], false);
    let last = Package::new("@acme/secret", "1.0.2");
    registry.publish(&bob, &last).await.assert(201);
    let missing = "/-/package/@acme%2fmissing/access";
    let unlock = json!({ "publish_requires_tfa": false });
    change(&registry, &root, missing, unlock).await.assert(404);
}

#[tokio::test]
pub(crate) async fn a_token_without_second_factor_does_not_unlock() {
    let (registry, alice) = with_secret(&[]).await;
    let wish = json!({ "password": "password", "name": "ci", "bypass_2fa": true });
    let made = change(&registry, &alice, "/-/npm/v1/tokens", wish).await;
    let ci = User {
        token: made.assert(200).json()["token"]
            .as_str()
            .unwrap()
            .to_owned(),
    };
    let registry = with_second_factor(registry, vec![], "alice", "auth-only", &["one"]).await;
    let lock = json!({ "publish_requires_tfa": true, "automation_token_overrides_tfa": true });
    change(&registry, &ci, SECRET, lock.clone())
        .await
        .assert(401);
    with_pass(&registry, &alice, "one", lock).await.assert(200);
    let next = Package::new("@acme/secret", "1.0.1");
    registry.publish(&ci, &next).await.assert(201);
    let unlock = json!({ "publish_requires_tfa": false });
    change(&registry, &ci, SECRET, unlock).await.assert(401);
    restrict(&registry, &ci).await;
}

#[tokio::test]
pub(crate) async fn a_hidden_package_and_a_missing_one_sound_alike() {
    let (registry, alice) = with_secret(&[]).await;
    let open = Package::new("@acme/open", "1.0.0");
    registry.publish(&alice, &open).await.assert(201);
    restrict(&registry, &alice).await;
    let stale = User {
        token: "rca_000000000000000000000000000000000000000000000000".to_owned(),
    };
    for path in [
        "/@acme%2fNAME",
        "/@acme/NAME/latest",
        "/@acme/NAME/1.0.0",
        "/@acme/NAME/-/NAME-1.0.0.tgz",
        "/-/package/@acme%2fNAME/dist-tags",
        "/-/package/@acme%2fNAME/dist-tags/latest",
        "/-/package/@acme%2fNAME/visibility",
        "/-/package/@acme%2fNAME/access",
        "/-/package/@acme%2fNAME/owners",
    ] {
        let of = |name: &str| path.replace("NAME", name);
        for method in [Method::GET, Method::HEAD] {
            let ask = async |name: &str, user: Option<&User>| {
                let mut request = registry.request(method.clone(), &of(name));
                if let Some(user) = user {
                    request = request.bearer_auth(&user.token);
                }
                let answer = registry.send(request).await;
                (answer.status.as_u16(), answer.body)
            };
            let hidden = ask("secret", None).await;
            assert_eq!(hidden.0, 404, "{path}");
            assert_eq!(hidden, ask("missing", None).await, "{path}");
            let hidden = ask("secret", Some(&stale)).await;
            assert_eq!(hidden.0, 401, "{path}");
            assert_eq!(hidden, ask("missing", Some(&stale)).await, "{path}");
        }
        registry.get_as(&alice, &of("secret")).await.assert(200);
        let read = registry.get_as(&stale, &of("open")).await.assert(200);
        assert!(read.header("npm-notice").is_some(), "{path}");
    }
    let attestations = |name: &str| format!("/-/npm/v1/attestations/@acme%2f{name}@1.0.0");
    for (user, status) in [(None, 404), (Some(&stale), 401)] {
        let ask = async |name: &str| {
            let path = attestations(name);
            let answer = match user {
                Some(user) => registry.get_as(user, &path).await,
                None => registry.get(&path).await,
            };
            let text = String::from_utf8(answer.assert(status).body).unwrap();
            text.replace(name, "NAME")
        };
        assert_eq!(ask("secret").await, ask("missing").await);
    }
    let refused = registry.get_as(&stale, "/@acme%2fsecret").await;
    assert!(refused.error().contains("unknown, expired or revoked"));
    // Without a scope nothing is hidden: what is missing is missing.
    let missing = registry.get_as(&stale, "/missing").await.assert(404);
    assert!(missing.header("npm-notice").is_some());
}

#[cfg(feature = "test-clients")]
mod clients {
    use std::fs;

    use super::*;
    use crate::support::client::{Client, as_user};

    /// Alice, who has published `@acme/secret`, in a registry where she has the team `@acme:core`.
    async fn with_team() -> (Registry, User) {
        let (registry, alice) = with_secret(&[("RUSTACCIO_ADMIN_USERS", "alice")]).await;
        registry.user("bob").await;
        let team = json!({ "name": "core" });
        let teams = "/-/org/acme/team";
        registry.put(&alice, teams, &team).await.assert(201);
        let bob = json!({ "user": "bob" });
        let members = "/-/team/acme/core/user";
        registry.put(&alice, members, &bob).await.assert(201);
        (registry, alice)
    }

    fn grants(client: &Client, packages_of: &[&str], collaborators_of: &[&str]) {
        let ask = |words: &[&str], of: &str| client.ok(&[words, &[of]].concat());
        client.ok(&["access", "grant", "read-only", "@acme:core", "@acme/secret"]);
        let packages = ask(packages_of, "@acme:core");
        assert!(packages.contains("@acme/secret"), "{packages}");
        let packages = ask(packages_of, "@acme");
        assert!(packages.contains("@acme/secret"), "{packages}");
        let packages = ask(packages_of, "bob");
        assert!(packages.contains("@acme/secret"), "{packages}");
        let people = ask(collaborators_of, "@acme/secret");
        assert!(
            people.contains("alice") && people.contains("bob"),
            "{people}"
        );
        client.ok(&["access", "revoke", "@acme:core", "@acme/secret"]);
        let people = ask(collaborators_of, "@acme/secret");
        assert!(
            people.contains("alice") && !people.contains("bob"),
            "{people}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_6() {
        let (registry, alice) = with_team().await;
        as_user("npm-6", &registry, &alice, |npm| {
            npm.ok(&["access", "restricted", "@acme/secret"]);
            grants(
                &npm,
                &["access", "ls-packages"],
                &["access", "ls-collaborators"],
            );
            npm.ok(&["access", "public", "@acme/secret"]);
        })
        .await;
        assert!(is_public(&registry).await);
    }

    async fn newest(name: &'static str) {
        let (registry, alice) = with_team().await;
        as_user(name, &registry, &alice, |client| {
            let status = |word: &str| {
                let text = client.ok(&["access", "get", "status", "@acme/secret"]);
                assert!(text.contains(word), "{text}");
            };
            status("public");
            client.ok(&["access", "set", "status=private", "@acme/secret"]);
            status(if client.name.starts_with("npm") {
                "private"
            } else {
                "restricted"
            });
            let lists = ["access", "list"];
            let [packages, people] =
                ["packages", "collaborators"].map(|what| [&lists[..], &[what]].concat());
            grants(&client, &packages, &people);
            let locked = client.fails_in(
                client.home(),
                &["access", "set", "mfa=publish", "@acme/secret"],
            );
            assert!(locked.contains("second factor"), "{locked}");
            client.ok(&["access", "set", "status=public", "@acme/secret"]);
            status("public");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12() {
        newest("npm-12").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_12() {
        newest("pnpm-12").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn owners_with_pnpm_12() {
        let (registry, alice) = with_secret(&[]).await;
        registry.user("bob").await;
        as_user("pnpm-12", &registry, &alice, |pnpm| {
            pnpm.ok(&["owner", "add", "@acme/secret", "bob"]);
            let owners = pnpm.ok(&["owner", "ls", "@acme/secret"]);
            assert!(
                owners.contains("alice") && owners.contains("bob"),
                "{owners}"
            );
            pnpm.ok(&["owner", "rm", "@acme/secret", "bob"]);
            let owners = pnpm.ok(&["owner", "ls", "@acme/secret"]);
            assert!(
                owners.contains("alice") && !owners.contains("bob"),
                "{owners}"
            );
            let last = pnpm.fails_in(pnpm.home(), &["owner", "rm", "@acme/secret", "alice"]);
            assert!(!last.is_empty());
            pnpm.fails_in(pnpm.home(), &["owner", "add", "@acme/secret", "nobody"]);
        })
        .await;
    }

    fn package(version: &str) -> Value {
        json!({ "name": "@acme/secret", "version": version, "license": "MIT" })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn publishing_with_npm_12() {
        let registry = Registry::alone().await;
        let alice = registry.user("alice").await;
        let steps: [(&str, &[&str], bool); 5] = [
            ("1.0.0", &[], true),
            ("1.0.1", &["--access=restricted"], false),
            ("1.0.2", &[], false),
            ("1.0.3", &["--access=public"], true),
            ("1.0.4", &[], true),
        ];
        for (version, arguments, expected) in steps {
            as_user("npm-12", &registry, &alice, move |npm| {
                let folder = npm.project("package", &package(version));
                npm.ok_in(&folder, &[&["publish"], arguments].concat());
            })
            .await;
            assert_eq!(is_public(&registry).await, expected, "{version}");
        }
    }

    /// Yarn asks for `restricted` of every scoped package, whether its user wants that or not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn publishing_with_yarn_4() {
        let registry = Registry::alone().await;
        let alice = registry.user("alice").await;
        let publish = async |version: &'static str| {
            let (url, token) = (registry.url.clone(), alice.token.clone());
            let work = move || {
                let yarn = Client::new("yarn-4");
                yarn.configure(
                    ".yarnrc.yml",
                    &format!(
                        "npmRegistryServer: \"{url}/\"\nnpmAuthToken: \"{token}\"\nunsafeHttpWhitelist: [\"127.0.0.1\"]\nenableTelemetry: false\n"
                    ),
                );
                let folder = yarn.project("package", &package(version));
                fs::write(folder.join("yarn.lock"), "").unwrap();
                yarn.ok_in(&folder, &["install"]);
                yarn.ok_in(&folder, &["npm", "publish"]);
            };
            tokio::task::spawn_blocking(work).await.unwrap();
        };
        publish("1.0.0").await;
        assert!(is_public(&registry).await);
        restrict(&registry, &alice).await;
        publish("1.0.1").await;
        assert!(!is_public(&registry).await);
    }
}
