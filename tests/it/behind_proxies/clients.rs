//! Package managers that sign in, publish and install through a proxy.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{
    registry,
    server::{Kind, Proxy},
};
use crate::{
    clients::installing::{Address, installer},
    support::{
        Package, Upstream,
        client::{Client, Turn},
        registry::with_json,
    },
};

const PASSWORD: &str = "s3cret-password";

/// Signs in, publishes with a scope and without, and installs both elsewhere, together with what
/// upstream has.
pub(super) async fn journey(name: &'static str, kind: Kind) {
    let upstream = Upstream::start().await;
    let right = Package::new("@up/right", "1.2.0");
    let needs = json!({ "dependencies": { "@up/right": "^1.0.0" } });
    let left = Package::with("left", "1.0.0", &needs, &[("index.js", b"// left\n")]);
    upstream.has(&[&right]);
    upstream.has(&[&left]);
    let registry = registry(&upstream).await;
    let proxy = Proxy::before(super::address_of(&registry.url), kind).await;
    let token = token(&proxy).await;
    let (url, authority) = (proxy.url.clone(), proxy.authority.file());
    let work = move || {
        let at = Address {
            url: &url,
            token: None,
            authority: Some(&authority),
        };
        publish(name, at, &token);
        let token = Some(token.as_str());
        install(name, Address { token, ..at });
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    for name in ["plain", "@acme/scoped"] {
        let path = format!("/{}", name.replace('/', "%2f"));
        let document = registry.get(&path).await.assert(200).json();
        assert_eq!(document["dist-tags"]["latest"], "1.0.0");
    }
    let asked = upstream.asked("/@up/right/-/right-1.2.0.tgz");
    assert_eq!(asked, 1, "the registry did not fetch it");
}

/// A new account, made through the proxy.
async fn token(proxy: &Proxy) -> String {
    let url = format!("{}/-/user/org.couchdb.user:alice", proxy.url);
    let body = json!({ "name": "alice", "password": PASSWORD });
    let client = proxy.client().build().unwrap();
    let answer = with_json(client.put(url), &body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    body["token"].as_str().unwrap().to_owned()
}

fn client(name: &str, at: Address<'_>) -> Client {
    let mut client = Client::new(name);
    installer(name).point(&mut client, at);
    installer(name).trust_what_is_new(&mut client);
    client
}

fn publish(name: &str, at: Address<'_>, token: &str) {
    let publisher = match name {
        // It has no login of its own.
        "bun-1" => client(
            name,
            Address {
                token: Some(token),
                ..at
            },
        ),
        _ => client(name, at),
    };
    let credentials = || {
        vec![
            Turn::new("sername", "alice"),
            Turn::new("assword", PASSWORD),
        ]
    };
    match name {
        "npm-12" => _ = publisher.converse("login --auth-type=legacy", credentials()),
        "pnpm-12" => {
            let mut turns = credentials();
            turns.push(Turn::new("mail", "alice@example.com"));
            publisher.converse("login", turns);
        }
        "yarn-4" => _ = publisher.converse("npm login", credentials()),
        _ => {}
    }
    for (folder, package) in [("one", "plain"), ("two", "@acme/scoped")] {
        let manifest = json!({ "name": package, "version": "1.0.0", "license": "MIT" });
        let folder = publisher.project(folder, &manifest);
        fs::write(folder.join("index.js"), format!("// {package}\n")).unwrap();
        match name {
            "yarn-1" => publish_as_yarn_1(&client(name, at), &folder),
            "yarn-4" => {
                fs::write(folder.join("yarn.lock"), "").unwrap();
                publisher.ok_in(&folder, &["install"]);
                publisher.ok_in(&folder, &["npm", "publish"]);
            }
            _ => _ = publisher.ok_in(&folder, &["publish", "--access=public"]),
        }
    }
}

/// It signs in where it publishes, and out again after that; the next time it would only ask for
/// the password.
fn publish_as_yarn_1(yarn: &Client, folder: &Path) {
    let command = format!("--cwd {} publish --new-version 1.0.0", folder.display());
    let turns = vec![
        Turn::new("username", "alice"),
        Turn::new("email", "alice@example.com"),
        Turn::new("password", PASSWORD),
    ];
    yarn.converse(&command, turns);
}

fn install(name: &str, at: Address<'_>) {
    let client = client(name, at);
    let needs = json!({ "left": "^1.0.0", "plain": "^1.0.0", "@acme/scoped": "^1.0.0" });
    let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
    let folder = client.project("project", &manifest);
    client.ok_in(&folder, &installer(name).install());
    for package in ["left", "plain", "@acme/scoped"] {
        let file = folder.join("node_modules").join(package).join("index.js");
        let found = fs::read_to_string(file).unwrap_or_default();
        assert_eq!(found, format!("// {package}\n"), "{name}");
    }
}
