//! Clients that leave out what was published a moment ago: through us they choose what they choose
//! without us. And pnpm, which asks no more of us for that than it must.

use axum::response::IntoResponse as _;

use super::*;
use crate::support::{
    front::{Front, for_document},
    upstream::path_of,
};

const CORGI: &str = "application/vnd.npm.install-v1+json";

/// How a client leaves out what is new.
struct Gate {
    client: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

/// The gate that it has by itself.
const fn by_default(client: &'static str) -> Gate {
    asked(client, &[])
}

const fn asked(client: &'static str, arguments: &'static [&'static str]) -> Gate {
    Gate {
        client,
        arguments,
        variables: &[],
    }
}

/// What a client has installed of `names`, or what it failed with.
fn outcome(gate: &Gate, url: &str, names: &[&str]) -> Result<Vec<String>, String> {
    let mut client = client_at(gate.client, url);
    for (name, value) in gate.variables {
        client.set(name, value);
    }
    let folder = client.project("project", &needing(&names[..1]));
    let yesterday = SystemClock.now().plus_millis(-86_400_000).to_string();
    let asked = gate.arguments.iter();
    let asked: Vec<String> = asked
        .map(|text| text.replace("YESTERDAY", &yesterday))
        .collect();
    let mut arguments = installer(gate.client).install();
    arguments.extend(asked.iter().map(String::as_str));
    let output = client.run_in(&folder, &arguments);
    if output.status.success() {
        let version = |name: &&str| {
            let hoisted = folder.join("node_modules").join(name);
            let folder = if hoisted.is_dir() {
                folder.clone()
            } else {
                // Where pnpm and Deno keep what only others need.
                let first = folder.join("node_modules").join(names[0]);
                let first = fs::canonicalize(first).unwrap();
                first.ancestors().nth(2).unwrap().to_owned()
            };
            version_of(&folder, name)
        };
        return Ok(names.iter().map(version).collect());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned())
}

/// What a client chooses directly and through a registry.
async fn both(
    gate: &'static Gate,
    upstream: &Upstream,
    names: &'static [&'static str],
) -> [Result<Vec<String>, String>; 2] {
    let registry = proxy(upstream, None).await;
    let urls = [upstream.url.clone(), registry.url.clone()];
    beside(move || urls.map(|url| outcome(gate, &url, names))).await
}

async fn chooses_the_older(gate: &'static Gate) {
    let upstream = Upstream::start().await;
    for name in ["fresh", "@up/fresh"] {
        let (old, new) = (Package::new(name, "1.0.0"), Package::new(name, "1.1.0"));
        let document = published(&upstream, &[(&old, 1_000_000), (&new, 5)]);
        upstream.answers(&path_of(name), &document);
    }
    for names in [&["fresh"], &["@up/fresh"]] {
        let [directly, through] = both(gate, &upstream, names).await;
        assert_eq!(directly, Ok(vec!["1.0.0".to_owned()]), "{}", gate.client);
        assert_eq!(through, directly, "{}", gate.client);
    }
}

macro_rules! gates {
    ($($test:ident $gate:expr),* $(,)?) => {
        mod the_older_version_is_chosen {
            use super::{asked, by_default, chooses_the_older};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    chooses_the_older(const { &$gate }).await;
                }
            )*
        }
    };
}

gates! {
    pnpm_11 by_default("pnpm-11"),
    pnpm_12 by_default("pnpm-12"),
    yarn_4 by_default("yarn-4"),
    deno_2 by_default("deno-2"),
    npm_11 asked("npm-11", &["--min-release-age=1"]),
    npm_12 asked("npm-12", &["--min-release-age=1"]),
    npm_7_before asked("npm-7", &["--before=YESTERDAY"]),
    npm_11_before asked("npm-11", &["--before=YESTERDAY"]),
    npm_12_before asked("npm-12", &["--before=YESTERDAY"]),
    bun_1 asked("bun-1", &["--minimum-release-age=86400"]),
}

/// A version of ours that is new is left out too; it is not older than it is.
async fn leaves_out_ours(gate: &'static Gate) {
    let clock = days_ago();
    let registry = Registry::at(&clock, &[]).await;
    let alice = registry.user("alice").await;
    let old = Package::new("@acme/lib", "1.0.0");
    registry.publish(&alice, &old).await.assert(201);
    clock.advance(10 * DAY);
    let new = Package::new("@acme/lib", "1.1.0");
    registry.publish(&alice, &new).await.assert(201);
    let url = registry.url.clone();
    beside(move || {
        let chosen = outcome(gate, &url, &["@acme/lib"]);
        assert_eq!(chosen, Ok(vec!["1.0.0".to_owned()]), "{}", gate.client);
    })
    .await;
}

/// With upstream's corgi form, which has no times, pnpm asks for the full one too; not with ours.
async fn asks_once(gate: &'static Gate) {
    let upstream = Upstream::start().await;
    let (old, new) = (
        Package::new("fresh", "1.0.0"),
        Package::new("fresh", "1.1.0"),
    );
    let document = published(&upstream, &[(&old, 1_000_000), (&new, 5)]);
    let mut corgi = document.clone();
    corgi["modified"] = corgi["time"]["modified"].clone();
    corgi.as_object_mut().unwrap().remove("time");
    upstream.plays("/fresh", move |headers| {
        let wanted = headers.get("accept").unwrap().to_str().unwrap();
        let answer = if wanted.starts_with(CORGI) {
            ([("content-type", CORGI)], corgi.to_string())
        } else {
            let full = document.to_string();
            ([("content-type", "application/json")], full)
        };
        async move { answer.into_response() }
    });
    let clock = days_ago();
    let registry = proxy(&upstream, Some(Arc::clone(&clock))).await;
    let alice = registry.user("alice").await;
    let own = Package::new("@acme/lib", "1.0.0");
    registry.publish(&alice, &own).await.assert(201);
    clock.advance(10 * DAY);
    let own = Package::new("@acme/lib", "1.1.0");
    registry.publish(&alice, &own).await.assert(201);
    let front = Front::before(&registry.url).await;
    let (directly, through) = (upstream.url.clone(), front.url.clone());
    let before = upstream.asked("/fresh");
    beside(move || install(&client_at(gate.client, &directly), &["fresh"])).await;
    assert_eq!(upstream.asked("/fresh") - before, 2);
    beside(move || {
        let pnpm = client_at(gate.client, &through);
        let folder = install(&pnpm, &["fresh", "@acme/lib"]);
        for name in ["fresh", "@acme/lib"] {
            assert_eq!(version_of(&folder, name), "1.0.0");
        }
    })
    .await;
    let asked = front.take_asked();
    for name in ["fresh", "@acme/lib"] {
        assert_eq!(for_document(&asked, name).len(), 1, "{asked:?}");
    }
}

/// What a dependency needs is no newer than the newest of what the project itself needs.
async fn goes_by_time(gate: &'static Gate) {
    let upstream = Upstream::start().await;
    let fields = json!({ "dependencies": { "@up/below": "^1.0.0" } });
    let above = Package::with("above", "1.0.0", &fields, &[]);
    let below = ["1.0.0", "1.1.0"].map(|version| Package::new("@up/below", version));
    let documents = [
        published(&upstream, &[(&above, 500_000)]),
        published(&upstream, &[(&below[0], 900_000), (&below[1], 100_000)]),
    ];
    for document in documents {
        upstream.answers(&path_of(document["name"].as_str().unwrap()), &document);
    }
    let [directly, through] = both(gate, &upstream, &["above", "@up/below"]).await;
    let expected = ["1.0.0", "1.0.0"].map(str::to_owned).to_vec();
    assert_eq!(directly, Ok(expected), "{}", gate.client);
    assert_eq!(through, directly, "{}", gate.client);
}

/// Signs for a version as upstream does for one that its own CI has published.
fn trust(document: &mut Value, version: &str) {
    let version = &mut document["versions"][version];
    version["_npmUser"] = json!({
        "name": "CI",
        "email": "ci@example.com",
        "trustedPublisher": { "id": "github", "oidcConfigId": "oidc:1" },
    });
    version["dist"]["attestations"] = json!({
        "url": "https://attestations.example/1",
        "provenance": { "predicateType": "https://slsa.dev/provenance/v1" },
    });
}

/// A version that nothing vouches for, after one that something does, is passed over.
async fn sees_who_is_trusted(gate: &'static Gate) {
    let upstream = Upstream::start().await;
    for (name, is_still_trusted) in [("steady", true), ("fallen", false)] {
        let versions = ["1.0.0", "1.1.0"].map(|version| Package::new(name, version));
        let times = [(&versions[0], 900_000), (&versions[1], 500_000)];
        let mut document = published(&upstream, &times);
        trust(&mut document, "1.0.0");
        if is_still_trusted {
            trust(&mut document, "1.1.0");
        }
        upstream.answers(&path_of(name), &document);
    }
    let [directly, through] = both(gate, &upstream, &["steady"]).await;
    assert_eq!(directly, Ok(vec!["1.1.0".to_owned()]), "{}", gate.client);
    assert_eq!(through, directly, "{}", gate.client);
    let [directly, through] = both(gate, &upstream, &["fallen"]).await;
    assert_eq!(directly, Ok(vec!["1.0.0".to_owned()]), "{}", gate.client);
    assert_eq!(through, directly, "{}", gate.client);
    let registry = proxy(&upstream, None).await;
    let url = registry.url.clone();
    let client = gate.client;
    let trusting = beside(move || outcome(&by_default(client), &url, &["fallen"])).await;
    assert_eq!(trusting, Ok(vec!["1.1.0".to_owned()]));
}

const fn time_based(client: &'static str) -> Gate {
    Gate {
        client,
        arguments: &[],
        variables: &[
            ("npm_config_resolution_mode", "time-based"),
            ("pnpm_config_resolution_mode", "time-based"),
        ],
    }
}

const fn no_downgrade(client: &'static str) -> Gate {
    Gate {
        client,
        arguments: &[],
        variables: &[("pnpm_config_trust_policy", "no-downgrade")],
    }
}

macro_rules! each {
    ($kind:ident($what:expr): $($test:ident $client:literal),* $(,)?) => {
        mod $kind {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$kind(const { &$what($client) }).await;
                }
            )*
        }
    };
}

each! {
    leaves_out_ours(super::by_default):
    pnpm_11 "pnpm-11",
    pnpm_12 "pnpm-12",
    yarn_4 "yarn-4",
    deno_2 "deno-2",
}

each! {
    asks_once(super::by_default):
    pnpm_11 "pnpm-11",
    pnpm_12 "pnpm-12",
}

each! {
    goes_by_time(super::time_based):
    pnpm_8 "pnpm-8",
    pnpm_12 "pnpm-12",
}

each! {
    sees_who_is_trusted(super::no_downgrade):
    pnpm_11 "pnpm-11",
    pnpm_12 "pnpm-12",
}
