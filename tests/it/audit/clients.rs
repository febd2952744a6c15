//! Audits with real clients: what they tell through us is what they tell without us.

use std::path::PathBuf;

use super::*;
use crate::support::client::Client;

/// An upstream with `leaky`, of which there is an advisory in both forms.
async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("leaky", "1.0.0")]);
    let fields = json!({ "dependencies": { "leaky": "^1.0.0" } });
    upstream.has(&[&Package::with("left", "1.0.0", &fields, &[])]);
    says(&upstream, BULK, &json!({ "leaky": [advisory(1)] }));
    let mut report = report(1, "leaky", &["left>leaky"]);
    let advisory = report["advisories"]["1"].as_object_mut().unwrap();
    let more = json!({
        "url": "https://advisories.example/1", "vulnerable_versions": "<2.0.0",
        "patched_versions": ">=2.0.0", "recommendation": "update", "overview": "it leaks",
        "references": "", "cwe": "CWE-1", "cves": [], "access": "public", "deleted": null,
    });
    advisory.extend(more.as_object().unwrap().clone());
    for path in [QUICK, FULL] {
        says(&upstream, path, &report);
    }
    upstream
}

fn project(client: &Client, registry: &str, needs: &[&str]) -> PathBuf {
    let settings = "fund=false\nupdate-notifier=false\nfetch-retries=0\n";
    client.configure(".npmrc", &format!("registry={registry}/\n{settings}"));
    let needs: serde_json::Map<String, Value> = needs
        .iter()
        .map(|name| ((*name).to_owned(), json!("^1.0.0")))
        .collect();
    let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
    client.project("project", &manifest)
}

/// The report of a client on what it installed from `registry`.
fn opinion(name: &str, registry: &str) -> (Value, bool) {
    let client = Client::new(name);
    let project = project(&client, registry, &["left"]);
    client.ok_in(&project, &["install"]);
    let output = client.run_in(&project, &["audit", "--json"]);
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{name}: {error}: {}",
            String::from_utf8_lossy(&output.stdout)
        )
    });
    report["runId"] = Value::Null;
    (report, output.status.success())
}

/// What clients hear is what they hear without us.
async fn says_the_same(name: &'static str) {
    let upstream = upstream().await;
    let registry = proxy(&upstream).await;
    let (direct, through) = (upstream.url.clone(), registry.url.clone());
    let work = move || (opinion(name, &direct), opinion(name, &through));
    let (direct, through) = tokio::task::spawn_blocking(work).await.unwrap();
    assert_eq!(direct, through);
    let (report, _) = direct;
    assert!(report.to_string().contains("it leaks"), "{report}");
}

macro_rules! says_the_same {
    ($($test:ident $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::says_the_same($name).await;
            }
        )*
    };
}

mod newest {
    says_the_same! { npm_12 "npm-12", pnpm_12 "pnpm-12" }
}

mod older {
    says_the_same! {
        npm_6 "npm-6", npm_7 "npm-7", npm_8 "npm-8", npm_9 "npm-9", npm_10 "npm-10",
        npm_11 "npm-11", pnpm_7 "pnpm-7", pnpm_8 "pnpm-8", pnpm_9 "pnpm-9",
        pnpm_10 "pnpm-10", pnpm_11 "pnpm-11",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_12_installs_while_audits_fail() {
    let upstream = upstream().await;
    upstream.fails(BULK, 503);
    let registry = proxy(&upstream).await;
    let url = registry.url.clone();
    let work = move || {
        let client = Client::new("npm-12");
        let project = project(&client, &url, &["left"]);
        client.ok_in(&project, &["install"]);
        assert!(project.join("node_modules/leaky").exists());
        let output = client.run_in(&project, &["audit"]);
        assert_eq!(output.status.code(), Some(1));
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    assert!(upstream.asked(BULK) > 0);
}

/// Clients that send the whole tree, of which nothing private may go on.
async fn keeps_to_itself(name: &'static str) {
    let upstream = upstream().await;
    let registry = proxy(&upstream).await;
    let alice = registry.user("alice").await;
    let fields = json!({ "dependencies": { "leaky": "^1.0.0" } });
    let secret = Package::with("@acme/secret", "1.0.0", &fields, &[]);
    registry.publish(&alice, &secret).await.assert(201);
    let url = registry.url.clone();
    let work = move || {
        let client = Client::new(name);
        let project = project(&client, &url, &["@acme/secret"]);
        client.sign_in_with(&url, &alice.token);
        client.ok_in(&project, &["install"]);
        let report = client.fails_in(&project, &["audit"]);
        assert!(report.contains("it leaks"), "{report}");
        alice.token
    };
    let token = tokio::task::spawn_blocking(work).await.unwrap();
    let sent = [BULK, QUICK, FULL].map(|path| json!(upstream.sent(path)));
    assert!(format!("{sent:?}").contains("leaky"), "{sent:?}");
    // Nobody had `@acme/secret` when it was published; that was asked before.
    let audits: Vec<_> = upstream.seen();
    let audits = audits.iter().filter(|(path, _)| path.contains("security"));
    let all = format!("{sent:?} {:?}", audits.collect::<Vec<_>>());
    for private in ["secret", "acme", &token, "authorization"] {
        assert!(!all.contains(private), "{private}: {all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_12_tells_nobody() {
    keeps_to_itself("npm-12").await;
}

mod older_trees {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_6_tells_nobody() {
        super::keeps_to_itself("npm-6").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_10_tells_nobody() {
        super::keeps_to_itself("pnpm-10").await;
    }
}
