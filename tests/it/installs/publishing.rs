//! Publishing with real clients where others do so too, and again.

use super::*;
use crate::support::client::as_user;

/// Ten at a time, as in a matrix of jobs: each version is there afterwards, with its tarball.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_of_many_at_once_is_lost() {
    const JOBS: usize = 10;
    const EACH: usize = 3;
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    as_user("npm-12", &registry, &alice, |npm| {
        std::thread::scope(|scope| {
            for job in 0..JOBS {
                let npm = &npm;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let version = format!("1.{job}.{number}");
                        let manifest = json!({ "name": "@acme/busy", "version": version });
                        let folder = npm.project(&version, &manifest);
                        // It lets nobody publish less than what is the latest.
                        let tag = format!("--tag=job-{job}");
                        npm.ok_in(&folder, &["publish", "--access=public", &tag]);
                    }
                });
            }
        });
    })
    .await;
    let document = registry.get("/@acme%2fbusy").await.assert(200).json();
    assert_eq!(document["versions"].as_object().unwrap().len(), JOBS * EACH);
    for job in 0..JOBS {
        for number in 0..EACH {
            let version = format!("1.{job}.{number}");
            assert!(document["versions"][&version].is_object(), "{version}");
            let path = format!("/@acme/busy/-/busy-{version}.tgz");
            registry.get(&path).await.assert(200);
        }
        let last = format!("1.{job}.{}", EACH - 1);
        assert_eq!(document["dist-tags"][format!("job-{job}")], last);
    }
}

/// A job that runs again publishes what is there already, and is told to take that well.
async fn tolerates_itself(name: &'static str) {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let (url, token) = (registry.url.clone(), alice.token);
    beside(move || {
        let mut client = Client::new(name);
        let at = Address {
            token: Some(&token),
            ..Address::of(&url)
        };
        installer(name).point(&mut client, at);
        let publish: &[&str] = match name {
            "yarn-4" => &["npm", "publish"],
            _ => &["publish"],
        };
        let manifest = json!({ "name": "again", "version": "1.0.0" });
        let folder = client.project("package", &manifest);
        client.ok_in(&folder, &installer(name).install());
        let tolerantly = [publish, &["--tolerate-republish"]].concat();
        client.ok_in(&folder, &tolerantly);
        client.fails_in(&folder, publish);
        client.ok_in(&folder, &tolerantly);
    })
    .await;
    let document = registry.get("/again").await.assert(200).json();
    assert_eq!(document["versions"].as_object().unwrap().len(), 1);
}

mod tolerates_itself {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn yarn_4() {
        super::tolerates_itself("yarn-4").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bun_1() {
        super::tolerates_itself("bun-1").await;
    }
}
