//! Manifests and accounts in Postgres, on one node and on several.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Digest as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{
    Package, Registry, User,
    postgres::{Pooler, schema, server, variables},
    process::Process,
    registry::Start,
    server::Server,
};

async fn node(url: &str) -> Registry {
    node_with(url, &[]).await
}

async fn node_with(url: &str, more: &[(&'static str, &str)]) -> Registry {
    let mut variables = variables(url);
    variables.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    Registry::with(Start {
        variables,
        ..Start::default()
    })
    .await
}

/// Waits until `look` says so: what one node changes, the others hear in a moment.
#[track_caller]
fn soon<F: Future<Output = bool>>(look: impl Fn() -> F) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        while !look().await {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "not so at {place}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn versions(registry: &Registry, name: &str) -> Vec<String> {
    let answer = registry.get(&format!("/{name}")).await;
    if answer.status == StatusCode::NOT_FOUND {
        return Vec::new();
    }
    let document = answer.assert(200).json();
    document["versions"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

#[tokio::test]
async fn a_package_is_published_read_changed_and_removed() {
    let registry = node(&schema().await).await;
    let alice = registry.user("alice").await;
    let package = Package::new("@a/app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    registry.publish(&alice, &package).await.assert(409);
    let second = Package::new("@a/app", "2.0.0");
    registry
        .publish_as(&alice, &second, "next")
        .await
        .assert(201);
    assert_eq!(versions(&registry, "@a/app").await, ["1.0.0", "2.0.0"]);
    let read = registry.tarball(&second).await.assert(200);
    assert_eq!(read.body, second.tarball);
    let tags = registry
        .get("/-/package/@a%2fapp/dist-tags")
        .await
        .assert(200);
    assert_eq!(tags.json(), json!({ "latest": "1.0.0", "next": "2.0.0" }));
    let found = registry.get("/-/v1/search?text=app").await.assert(200);
    assert_eq!(found.json()["total"], 1);
    registry.get("/-/health/ready").await.assert(200);
    // Nothing of it is in the data folder but tarballs.
    let data = registry.data();
    assert!(!data.join("state.json").exists() && !data.join("secret.key").exists());
    assert!(!data.join("tarballs/@a__app/package.json").exists());
    assert!(data.join("tarballs/@a__app/app-1.0.0.tgz").exists());
    let removed = registry.delete(&alice, "/@a%2fapp/-rev/1-0").await;
    removed.assert(201);
    assert_eq!(versions(&registry, "@a/app").await, Vec::<String>::new());
    assert!(!data.join("tarballs/@a__app/app-1.0.0.tgz").exists());
}

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart() {
    let url = schema().await;
    let registry = node(&url).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let folder = registry.stop().await;
    let registry = Registry::with(Start {
        variables: variables(&url),
        folder: Some(folder),
        ..Start::default()
    })
    .await;
    let name = registry.get_as(&alice, "/-/whoami").await.assert(200);
    assert_eq!(name.json()["username"], "alice");
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

#[tokio::test]
async fn fsck_takes_no_version_away_whose_tarball_may_be_elsewhere() {
    let url = schema().await;
    let registry = node(&url).await;
    let alice = registry.user("alice").await;
    for version in ["1.0.0", "2.0.0"] {
        let package = Package::new("app", version);
        registry.publish(&alice, &package).await.assert(201);
    }
    let tarballs = registry.data().join("tarballs/app");
    let folder = tempfile::tempdir().unwrap();
    let fsck = || {
        let variables = variables(&url);
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut command = Process::command(folder.path(), &variables);
        let output = command.args(["fsck", "--repair"]).output().unwrap();
        assert!(!output.status.success());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let (_, refused) = fsck();
    assert!(refused.contains("there are none at all"), "{refused}");
    let own = folder.path().join("tarballs/app");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(tarballs.join("app-2.0.0.tgz"), own.join("app-2.0.0.tgz")).unwrap();
    let (report, _) = fsck();
    let missing = "app@1.0.0: the tarball is missing";
    assert!(report.contains(missing), "{report}");
    assert_eq!(versions(&registry, "app").await, ["1.0.0", "2.0.0"]);
}

#[tokio::test]
async fn what_one_node_publishes_shows_on_the_others() {
    let url = schema().await;
    let (one, other) = (node(&url).await, node(&url).await);
    let alice = one.user("alice").await;
    // The other node has looked, and knows that there is no such package.
    assert!(versions(&other, "@a/app").await.is_empty());
    for (number, version) in ["1.0.0", "1.0.1", "1.1.0"].into_iter().enumerate() {
        let package = Package::new("@a/app", version);
        one.publish(&alice, &package).await.assert(201);
        soon(async || versions(&other, "@a/app").await.len() == number + 1).await;
    }
    let search = async || other.get("/-/v1/search?text=app").await.json()["objects"].clone();
    soon(async || search().await[0]["package"]["version"] == "1.1.0").await;
    // And back.
    let tag = json!("1.0.0");
    let path = "/-/package/@a%2fapp/dist-tags/old";
    other.put(&alice, path, &tag).await.assert(201);
    let tags = async || one.get("/-/package/@a%2fapp/dist-tags").await.json();
    soon(async || tags().await["old"] == "1.0.0").await;
    let access = json!({ "access": "restricted" });
    let path = "/-/package/@a%2fapp/access";
    other
        .send_json(Some(&alice), Method::POST, path, &access)
        .await
        .assert(200);
    soon(async || search().await.as_array().is_some_and(Vec::is_empty)).await;
    soon(async || one.get("/-/v1/search?text=app").await.json()["total"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_nothing_from_the_start_looks_at_each_read() {
    let url = schema().await;
    let pooler = Pooler::before(&url).await;
    let (deaf, other) = (node(&pooler.url).await, node(&url).await);
    let alice = other.user("alice").await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let package = Package::new("app", &format!("{number}.0.0"));
        other.publish(&alice, &package).await.assert(201);
        expected.push(package.version);
        assert_eq!(versions(&deaf, "app").await, expected);
    }
    let whoami = "/-/whoami";
    deaf.get_as(&alice, whoami).await.assert(200);
    let logout = format!("/-/user/token/{}", alice.token);
    other.delete(&alice, &logout).await.assert(200);
    deaf.get_as(&alice, whoami).await.assert(401);
    // Beats are few.
    let looks = async || {
        let before = pooler.commands();
        for _ in 0..20 {
            deaf.get("/app").await.assert(200);
        }
        pooler.commands() - before
    };
    assert!(looks().await >= 20);
    // Once it hears, it believes what it has in memory.
    pooler.pass_notices_on();
    soon(async || looks().await < 10).await;
    let alice = other.user("bob").await;
    let package = Package::new("lib", "1.0.0");
    other.publish(&alice, &package).await.assert(201);
    soon(async || versions(&deaf, "lib").await == ["1.0.0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_read_does_not_keep_the_others_from_searches() {
    let url = schema().await;
    let other = node(&url).await;
    let alice = other.user("alice").await;
    for name in ["bad", "good"] {
        let package = Package::new(name, "1.0.0");
        other.publish(&alice, &package).await.assert(201);
    }
    let folder = tempfile::tempdir().unwrap();
    let owned = variables(&url);
    let pairs: Vec<(&str, &str)> = owned
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let process = Process::start(folder.path(), &pairs);
    let finds = async |name: &str| {
        let url = format!("{}/-/v1/search?text={name}", process.url);
        let found = reqwest::get(url).await.unwrap().bytes().await.unwrap();
        let found: Value = serde_json::from_slice(&found).unwrap();
        found["total"] == 1
    };
    soon(async || finds("bad").await).await;

    // Somebody breaks it, and the node hears of it.
    let mut database = PgConnection::connect(&url).await.unwrap();
    let broken = "UPDATE manifests SET json = 'no', stamp = nextval('manifest_stamps') \
                  WHERE name = 'bad'";
    database.execute(broken).await.unwrap();
    let told = sqlx::query("SELECT pg_notify($1, 'package:bad')").bind(channel(&url));
    told.execute(&mut database).await.unwrap();
    let complaint = "a package cannot be found by searches";
    process.wait_for_log(complaint, 1);
    // When it has missed something, everything is read again, and it goes on from there.
    let cut = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN \"' || $1 || '%'",
    );
    cut.bind(channel(&url))
        .execute(&mut database)
        .await
        .unwrap();
    process.wait_for_log(complaint, 2);
    let package = Package::new("later", "1.0.0");
    other.publish(&alice, &package).await.assert(201);
    soon(async || finds("later").await).await;
    let log = process.stop();
    assert!(!log.contains("trying again"), "{log}");
}

/// Where the nodes of this schema tell what they change.
fn channel(url: &str) -> String {
    let (_, schema) = url.split_once("[search_path]=").unwrap();
    let digest = sha2::Sha256::digest(schema.as_bytes());
    format!("rustaccio_{}", hex::encode(&digest[..12]))
}

#[tokio::test]
async fn many_writers_on_two_nodes_lose_nothing() {
    let url = schema().await;
    let nodes = [node(&url).await, node(&url).await];
    let alice = nodes[0].user("alice").await;
    nodes[0]
        .publish(&alice, &Package::new("app", "0.0.0"))
        .await
        .assert(201);
    let writers = (1..=8).map(|writer| {
        let (registry, alice) = (&nodes[writer % 2], &alice);
        async move {
            for number in 0..5 {
                let package = Package::new("app", &format!("{writer}.{number}.0"));
                let tag = format!("w{writer}");
                registry.publish_as(alice, &package, &tag).await.assert(201);
            }
        }
    });
    futures_util::future::join_all(writers).await;
    for registry in &nodes {
        soon(async || versions(registry, "app").await.len() == 41).await;
        let tags = registry.get("/-/package/app/dist-tags").await.json();
        for writer in 1..=8 {
            assert_eq!(tags[format!("w{writer}")], format!("{writer}.4.0"));
        }
    }
}

#[tokio::test]
async fn accounts_are_the_same_on_all_nodes() {
    let url = schema().await;
    let (one, other) = (node(&url).await, node(&url).await);
    let alice = one.user("alice").await;
    // A token works everywhere at once, and whoever registered logs in everywhere.
    let whoami = async |node: &Registry, user: &User| node.get_as(user, "/-/whoami").await.status;
    assert_eq!(whoami(&other, &alice).await, StatusCode::OK);
    let again = other.user("alice").await;
    assert_eq!(whoami(&one, &again).await, StatusCode::OK);
    other.sign_in("alice", "wrong password").await.assert(401);
    // It ends on its own node at once, and on the others in a moment.
    let path = format!("/-/user/token/{}", alice.token);
    one.delete(&alice, &path).await.assert(200);
    assert_eq!(whoami(&one, &alice).await, StatusCode::UNAUTHORIZED);
    soon(async || whoami(&other, &alice).await == StatusCode::UNAUTHORIZED).await;
    // A new password ends the logins of all nodes, and counts on all of them.
    let change = json!({ "password": { "old": "password", "new": "another one" } });
    let path = "/-/npm/v1/user";
    other
        .send_json(Some(&again), Method::POST, path, &change)
        .await
        .assert(200);
    soon(async || whoami(&one, &again).await == StatusCode::UNAUTHORIZED).await;
    one.sign_in("alice", "password").await.assert(401);
    one.sign_in("alice", "another one").await.assert(201);
}

#[tokio::test]
async fn a_login_is_finished_on_another_node() {
    const ON: (&str, &str) = ("RUSTACCIO_WEB_LOGIN", "true");
    let url = schema().await;
    let (one, other) = (node_with(&url, &[ON]).await, node_with(&url, &[ON]).await);
    one.user("alice").await;
    let begun = one
        .send_json(None, Method::POST, "/-/v1/login", &json!({}))
        .await;
    let begun = begun.assert(200).json();
    let path = |key: &str| begun[key].as_str().unwrap().replace(&one.url, "");
    let (page, done) = (path("loginUrl"), path("doneUrl"));
    other.get(&done).await.assert(202);
    let form = page.split_once("?next=").unwrap().1.to_owned();
    let form = form[form.find("/-/v1/login_cli/").unwrap()..].to_owned();
    let answer = other
        .request(Method::POST, &form)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("username=alice&password=password");
    other.send(answer).await.assert(200);
    let token: Value = one.get(&done).await.assert(200).json()["token"].clone();
    let alice = User {
        token: token.as_str().unwrap().to_owned(),
    };
    other.get_as(&alice, "/-/whoami").await.assert(200);
    other.get(&done).await.assert(400);
}

#[tokio::test]
async fn all_nodes_sign_with_one_key() {
    let url = schema().await;
    let on = [("RUSTACCIO_SIGNING", "on")];
    let (one, other) = futures_util::join!(node_with(&url, &on), node_with(&url, &on));
    let keys = async |node: &Registry| node.get("/-/npm/v1/keys").await.assert(200).json();
    assert_eq!(keys(&one).await, keys(&other).await);
    assert_eq!(keys(&one).await["keys"].as_array().unwrap().len(), 1);
}

type Blow = fn(&Server);

/// What a request comes to, and that it does not take long.
async fn in_time(request: impl Future<Output = crate::support::Answer>) -> StatusCode {
    let answer = tokio::time::timeout(Duration::from_secs(15), request).await;
    answer.expect("an answer in time").status
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_requests_fail_in_time_and_service_resumes() {
    let server = server();
    let registry = node(&server.url).await;
    let alice = registry.user("alice").await;
    let package = |version: &str| Package::new("app", version);
    registry
        .publish(&alice, &package("1.0.0"))
        .await
        .assert(201);
    let blows: [(Blow, Blow); 2] = [
        (Server::pause, Server::resume),
        (
            |server| server.signal("STOP"),
            |server| server.signal("CONT"),
        ),
    ];
    for (round, (strike, heal)) in blows.into_iter().enumerate() {
        let acknowledged = versions(&registry, "app").await.len();
        strike(&server);
        let second = package(&format!("2.{round}.0"));
        // Of one that was asked for before it may still be believed for a while that it is not there.
        let other_path = format!("/another-{round}");
        let publish = registry.publish(&alice, &second);
        let stranger = registry.sign_in("bob", "password");
        let other = registry.get(&other_path);
        let (publish, stranger, other) =
            futures_util::join!(in_time(publish), in_time(stranger), in_time(other));
        for status in [publish, stranger, other] {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "round {round}");
        }
        heal(&server);
        soon(async || registry.get("/-/ping").await.status == StatusCode::OK).await;
        soon(async || registry.get(&other_path).await.status == StatusCode::NOT_FOUND).await;
        // Nothing that was acknowledged is lost; what was not may have come to be.
        let found = versions(&registry, "app").await;
        assert!(
            found.len() >= acknowledged && found.len() <= acknowledged + 1,
            "{found:?}"
        );
        let third = package(&format!("3.{round}.0"));
        registry.publish(&alice, &third).await.assert(201);
        assert!(
            versions(&registry, "app")
                .await
                .contains(&format!("3.{round}.0"))
        );
        registry.get_as(&alice, "/-/whoami").await.assert(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_may_be_as_late_as_the_setting_says() {
    let server = server();
    let nodes = ["1", "60"].map(|seconds| {
        let patience = ("RUSTACCIO_METADATA_POSTGRES_TIMEOUT_SECS", seconds);
        let url = server.url.clone();
        async move { node_with(&url, &[patience]).await }
    });
    let [hasty, patient] = nodes;
    let (hasty, patient) = tokio::join!(hasty, patient);
    server.signal("STOP");
    let mut waiting = pin!(patient.sign_in("alice", "password"));
    tokio::select! {
        biased;
        answer = &mut waiting => panic!("{}: not so patient", answer.status),
        answer = hasty.sign_in("bob", "password") => drop(answer.assert(503)),
    }
    server.signal("CONT");
    waiting.await.assert(201);
}

#[test]
fn a_database_that_is_not_there_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |url: &str| {
        let done = Process::command(
            folder.path(),
            &[
                ("RUSTACCIO_METADATA_BACKEND", "postgres"),
                ("RUSTACCIO_METADATA_POSTGRES_URL", url),
                ("RUSTACCIO_METADATA_POSTGRES_TIMEOUT_SECS", "2"),
            ],
        );
        let mut done = done;
        let done = done.output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let said = settings("postgres://rustaccio:hunter2@127.0.0.1:1/none");
    assert!(
        said.contains("127.0.0.1:1") && said.contains("RUSTACCIO_METADATA_POSTGRES_URL"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let said = settings("");
    assert!(said.contains("RUSTACCIO_METADATA_POSTGRES_URL"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_allowed() {
    use sqlx::Connection as _;

    for (most, expected) in [("3", 3), ("9", 9)] {
        let url = schema().await;
        let mut settings = variables(&url);
        settings.retain(|(name, _)| !name.ends_with("TIMEOUT_SECS"));
        settings.extend([
            (
                "RUSTACCIO_METADATA_POSTGRES_MAX_CONNECTIONS",
                most.to_owned(),
            ),
            ("RUSTACCIO_METADATA_POSTGRES_TIMEOUT_SECS", "60".to_owned()),
        ]);
        let registry = Registry::with(Start {
            variables: settings,
            ..Start::default()
        })
        .await;
        let mut holder = PgConnection::connect(&url).await.unwrap();
        let mut held = holder.begin().await.unwrap();
        sqlx::query("LOCK TABLE manifests IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *held)
            .await
            .unwrap();
        let mut watcher = PgConnection::connect(&url).await.unwrap();
        let asked = (0..12).map(async |number| {
            let answer = registry.get(&format!("/app-{number}")).await;
            answer.assert(404);
        });
        let waiting = async {
            loop {
                let count: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM pg_locks WHERE relation = 'manifests'::regclass \
                     AND NOT granted",
                )
                .fetch_one(&mut watcher)
                .await
                .unwrap();
                assert!(count <= expected, "{count}");
                if count == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            held.rollback().await.unwrap();
        };
        tokio::join!(futures_util::future::join_all(asked), waiting);
    }
}
