//! `rustaccio migrate`: into Postgres and back.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    Package, Registry, User,
    postgres::{schema, variables},
    process::Process,
    registry::Start,
};

/// What the command says, and whether it ended well.
fn migrate(data: &Path, url: &str, arguments: &[&str]) -> (String, bool) {
    let mut command = Process::command(data, &[("RUSTACCIO_METADATA_POSTGRES_URL", url)]);
    let done = command.arg("migrate").args(arguments).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (String::from_utf8(said).unwrap(), done.status.success())
}

/// Why the program does not start.
fn refusal(data: &Path, variables: &[(&str, &str)]) -> String {
    Process::refusal(Process::command(data, variables))
}

async fn serve(folder: tempfile::TempDir, variables: Vec<(&str, String)>) -> Registry {
    Registry::with(Start {
        variables,
        folder: Some(folder),
        ..Start::default()
    })
    .await
}

async fn keyid(registry: &Registry) -> String {
    let keys = registry.get("/-/npm/v1/keys").await.assert(200).json();
    keys["keys"][0]["keyid"].as_str().unwrap().to_owned()
}

async fn whoami(registry: &Registry, user: &User) -> StatusCode {
    registry.get_as(user, "/-/whoami").await.status
}

async fn sign_out(registry: &Registry, user: &User) {
    let path = format!("/-/user/token/{}", user.token);
    let request = registry.request(Method::DELETE, &path);
    let request = request.bearer_auth(&user.token);
    registry.send(request).await.assert(200);
}

/// The data folder was moved to the database at `url` before: not again, and not to another one.
async fn moves_nothing(data: &Path, url: &str) {
    for arguments in [&["to-postgres"][..], &["to-postgres", "--overwrite"]] {
        let (said, is_fine) = migrate(data, url, arguments);
        assert!(is_fine && said.contains("nothing was changed"), "{said}");
    }
    let used = schema().await;
    let other = serve(tempfile::tempdir().unwrap(), variables(&used)).await;
    other.user("carol").await;
    for url in [&schema().await, &used] {
        let (said, is_fine) = migrate(data, url, &["to-postgres", "--overwrite"]);
        assert!(!is_fine && said.contains("moved-to-postgres"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_into_postgres_and_comes_back() {
    let url = schema().await;
    let registry = Registry::alone().await;
    let (alice, bob) = (registry.user("alice").await, registry.user("bob").await);
    let packages = ["app", "@a/app"].map(|name| Package::new(name, "1.0.0"));
    for package in &packages {
        registry.publish(&alice, package).await.assert(201);
    }
    let key = keyid(&registry).await;
    let before = registry.get("/app").await.json();
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    let state = std::fs::read(data.join("state.json")).unwrap();

    // What is not moved yet is not served as if it were gone.
    let settings: Vec<(&str, &str)> = vec![
        ("RUSTACCIO_METADATA_BACKEND", "postgres"),
        ("RUSTACCIO_METADATA_POSTGRES_URL", &url),
    ];
    let said = refusal(&data, &settings);
    assert!(said.contains("rustaccio migrate to-postgres"), "{said}");
    let (said, is_fine) = migrate(&data, &url, &["to-postgres"]);
    assert!(is_fine, "{said}");
    assert!(
        said.contains("packages: 2 moved, 0 there already"),
        "{said}"
    );
    assert!(
        said.contains("organisations: 4 moved, 0 there already"),
        "{said}"
    );
    let (said, is_fine) = migrate(&data, &url, &["to-postgres"]);
    assert!(is_fine && said.contains("nothing was changed"), "{said}");
    assert_eq!(std::fs::read(data.join("state.json")).unwrap(), state);

    let registry = serve(folder, variables(&url)).await;
    assert_eq!(keyid(&registry).await, key);
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    registry.sign_in("alice", "password").await.assert(201);
    let after = registry.get("/app").await.json();
    assert_eq!(
        after["versions"]["1.0.0"]["dist"]["signatures"],
        before["versions"]["1.0.0"]["dist"]["signatures"]
    );
    assert_eq!(after["_rev"], before["_rev"]);
    for package in &packages {
        assert_eq!(
            registry.tarball(package).await.assert(200).body,
            package.tarball
        );
    }
    registry
        .publish(&alice, &Package::new("app", "2.0.0"))
        .await
        .assert(201);
    sign_out(&registry, &bob).await;
    let folder = registry.stop().await;

    // What is of before is not moved as if it were of now: no token is good again.
    moves_nothing(&data, &url).await;
    let registry = serve(folder, variables(&url)).await;
    assert_eq!(whoami(&registry, &bob).await, StatusCode::UNAUTHORIZED);
    let folder = registry.stop().await;
    // What is of before is not served as if it were of now.
    let said = refusal(&data, &[]);
    assert!(said.contains("rustaccio migrate from-postgres"), "{said}");
    let (said, is_fine) = migrate(&data, &url, &["from-postgres"]);
    assert!(!is_fine, "{said}");
    assert!(
        said.contains("the package `app` is another in the target"),
        "{said}"
    );
    assert!(said.contains("of `bob` is only in the target"), "{said}");
    assert!(said.contains("--overwrite"), "{said}");
    let (said, is_fine) = migrate(&data, &url, &["from-postgres", "--overwrite"]);
    assert!(is_fine, "{said}");
    let registry = serve(folder, Vec::new()).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    assert_eq!(whoami(&registry, &bob).await, StatusCode::UNAUTHORIZED);
    assert_eq!(keyid(&registry).await, key);
    let versions = registry.get("/app").await.assert(200).json()["versions"].clone();
    assert_eq!(versions.as_object().unwrap().len(), 2);
    let tag = json!("1.0.0");
    registry
        .put(&alice, "/-/package/app/dist-tags/old", &tag)
        .await
        .assert(201);
}

/// What the database at `url` has is of before: it is neither moved again, nor served.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_back_stays_there() {
    let url = schema().await;
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    for way in ["to-postgres", "from-postgres"] {
        let (said, is_fine) = migrate(&data, &url, &[way]);
        assert!(is_fine, "{said}");
    }
    let registry = serve(folder, Vec::new()).await;
    sign_out(&registry, &alice).await;
    let folder = registry.stop().await;
    for arguments in [&["from-postgres"][..], &["from-postgres", "--overwrite"]] {
        let (said, is_fine) = migrate(&data, &url, arguments);
        assert!(is_fine && said.contains("nothing was changed"), "{said}");
    }
    let registry = serve(folder, Vec::new()).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::UNAUTHORIZED);
    let folder = registry.stop().await;
    let another = tempfile::tempdir().unwrap();
    let (said, is_fine) = migrate(another.path(), &url, &["from-postgres"]);
    assert!(!is_fine && said.contains("moved-from-postgres"), "{said}");
    let settings = variables(&url);
    let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
    let said = refusal(another.path(), &settings);
    assert!(said.contains("migrate to-postgres"), "{said}");
    // It goes there once more, and is the newest again.
    let (said, is_fine) = migrate(&data, &url, &["to-postgres", "--overwrite"]);
    assert!(is_fine, "{said}");
    let registry = serve(folder, variables(&url)).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_go_with_their_key_or_not_at_all() {
    let url = schema().await;
    let other = serve(tempfile::tempdir().unwrap(), variables(&url)).await;
    other.user("carol").await;
    let folder = Registry::alone().await.stop().await;
    let (said, is_fine) = migrate(&folder.path().join("data"), &url, &["to-postgres"]);
    assert!(!is_fine && said.contains("secret.key"), "{said}");
    other.sign_in("carol", "password").await.assert(201);
}

/// What was not moved to its end is not served, and its source is: the newest is one of them at any time.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_moved_to_its_end_is_not_served() {
    let url = schema().await;
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    let settings = variables(&url);
    let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
    let dies = |way: &str, point: &str| {
        let crash = [settings[1], ("RUSTACCIO_CRASH_AT", point)];
        let mut command = Process::command(&data, &crash);
        let done = command.args(["migrate", way]).output().unwrap();
        assert!(!done.status.success());
    };
    assert_eq!(settings[1].0, "RUSTACCIO_METADATA_POSTGRES_URL");
    dies("to-postgres", "target-begun:1");
    let said = refusal(&data, &settings);
    assert!(said.contains("`rustaccio migrate to-postgres`"), "{said}");
    let registry = serve(folder, Vec::new()).await;
    let folder = registry.stop().await;
    // The source is marked, and the target still too: the next run finishes both.
    dies("to-postgres", "mark-changed:1");
    let said = refusal(&data, &settings);
    assert!(said.contains("`rustaccio migrate to-postgres`"), "{said}");
    let said = refusal(&data, &[]);
    assert!(said.contains("migrate from-postgres"), "{said}");
    let (said, is_fine) = migrate(&data, &url, &["to-postgres"]);
    assert!(is_fine && said.contains("are changed now"), "{said}");
    let (said, is_fine) = migrate(&data, &url, &["to-postgres"]);
    assert!(is_fine && said.contains("nothing was changed"), "{said}");
    let registry = serve(folder, variables(&url)).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    let folder = registry.stop().await;
    // Back again, into what has tarballs already: whoever has the database is served on.
    dies("from-postgres", "target-begun:1");
    let registry = serve(folder, variables(&url)).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    let folder = registry.stop().await;
    dies("from-postgres", "mark-changed:2");
    assert!(!refusal(&data, &settings).is_empty() && !refusal(&data, &[]).is_empty());
    let (said, is_fine) = migrate(&data, &url, &["from-postgres"]);
    assert!(is_fine, "{said}");
    let registry = serve(folder, Vec::new()).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    assert_eq!(
        registry.tarball(&package).await.assert(200).body,
        package.tarball
    );
}

/// The database is the newest until the last moment, though the folder has accounts already.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_being_left_is_served_until_then() {
    let url = schema().await;
    let registry = serve(tempfile::tempdir().unwrap(), variables(&url)).await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&alice, &package).await.assert(201);
    let folder = registry.stop().await;
    let data = folder.path().join("data");
    let pairs = [
        ("RUSTACCIO_METADATA_POSTGRES_URL", &*url),
        ("RUSTACCIO_CRASH_AT", "file-renamed:4"),
    ];
    let mut command = Process::command(&data, &pairs);
    let done = command.args(["migrate", "from-postgres"]).output().unwrap();
    assert!(!done.status.success() && data.join("state.json").exists());
    let said = refusal(&data, &[]);
    assert!(said.contains("`rustaccio migrate from-postgres`"), "{said}");
    let registry = serve(folder, variables(&url)).await;
    assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
    drop(registry.stop().await);
}

/// After each of several moves, the newest is served, and nothing else.
#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_alone_is_served_all_the_way_round() {
    use crate::backup::{Variables, command, fine};

    let bucket = crate::support::bucket::Bucket::s3().await;
    let database = variables(&schema().await);
    let folder_alone = vec![database[1].clone()];
    let bucket_alone = [bucket.variables.clone(), folder_alone.clone()].concat();
    let both = [bucket.variables.clone(), database.clone()].concat();
    let all = [&folder_alone, &database, &both, &bucket_alone];
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let mut folder = registry.stop().await;
    let data = folder.path().join("data");
    let round: [(&str, &Variables, &Variables); 6] = [
        ("to-postgres", &folder_alone, &database),
        ("to-bucket", &database, &both),
        ("from-postgres", &both, &bucket_alone),
        ("from-bucket", &bucket_alone, &folder_alone),
        ("to-bucket", &bucket_alone, &bucket_alone),
        ("to-postgres", &both, &both),
    ];
    let mut packages = Vec::new();
    for (count, (way, settings, newest)) in round.into_iter().enumerate() {
        // The way of the bucket needs to know which.
        let settings = if way == "to-bucket" && count == 1 {
            &both
        } else {
            settings
        };
        fine(&data, settings, &["migrate", way, "--overwrite"]).await;
        for other in all.into_iter().filter(|other| *other != newest) {
            let is_used = other.len() < 3 || count > 0;
            if is_used {
                let (said, is_fine) = command(&data, other, &["fsck"]).await;
                assert!(
                    !is_fine && said.contains("migrate"),
                    "{way}, {count}: {said}"
                );
            }
        }
        let registry = serve(folder, newest.clone()).await;
        assert_eq!(whoami(&registry, &alice).await, StatusCode::OK);
        let package = Package::new("app", &format!("{count}.0.0"));
        registry.publish(&alice, &package).await.assert(201);
        packages.push(package);
        for package in &packages {
            let got = registry.tarball(package).await.assert(200);
            assert_eq!(got.body, package.tarball);
        }
        folder = registry.stop().await;
    }
}
