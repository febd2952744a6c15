//! Second factors as people meet them: in their package manager, on a terminal.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use totp_rs::{Builder, Totp};

use super::{World, clock, code_at};
use crate::support::{
    Package, Registry,
    client::{Client, Turn},
};

const IN_BROWSER: &[(&str, &str)] = &[("RUSTACCIO_WEB_LOGIN", "true")];
const WITHOUT_BROWSER: &[(&str, &str)] = &[("RUSTACCIO_WEB_LOGIN", "false")];

/// Runs `play`, which blocks, beside the registry.
async fn beside<T: Send + 'static>(play: impl FnOnce(&Handle) -> T + Send + 'static) -> T {
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || play(&handle))
        .await
        .unwrap()
}

/// What a client shows of its user.
#[derive(Clone, Copy)]
enum Credentials<'a> {
    None,
    Token(&'a str),
    /// A name and a password, as `_auth` has them.
    Basic(&'a str),
}

/// A client that uses the registry at `url`.
fn configured(name: &str, url: &str, credentials: Credentials<'_>) -> Client {
    let client = Client::new(name);
    let (_, host) = url.split_once("//").unwrap();
    let (npmrc, yarnrc) = match credentials {
        Credentials::None => (String::new(), String::new()),
        Credentials::Token(token) => (
            format!("//{host}/:_authToken={token}\n"),
            format!("npmAuthToken: {token}\n"),
        ),
        Credentials::Basic(text) => (
            format!(
                "//{host}/:_auth={}\nalways-auth=true\n",
                STANDARD.encode(text)
            ),
            format!("npmAuthIdent: '{text}'\nnpmAlwaysAuth: true\n"),
        ),
    };
    client.configure(
        ".npmrc",
        &format!(
            "registry={url}/\nupdate-notifier=false\nfund=false\naudit=false\nfetch-retries=0\n\
             browser=false\n{npmrc}"
        ),
    );
    if name == "yarn-4" {
        client.configure(
            ".yarnrc.yml",
            &format!(
                "npmRegistryServer: {url}\nunsafeHttpWhitelist: [127.0.0.1]\nhttpRetry: 0\n\
                 enableTelemetry: false\nnpmMinimalAgeGate: 0\n\
                 nodeLinker: node-modules\n{yarnrc}"
            ),
        );
    }
    client
}

/// A project to publish.
fn package(client: &Client, version: &str) -> PathBuf {
    let manifest = json!({ "name": "mine", "version": version, "license": "MIT" });
    let folder = client.project("mine", &manifest);
    // Yarn takes a project without one for a part of a larger one.
    fs::write(folder.join("yarn.lock"), "").unwrap();
    if client.name == "yarn-4" {
        client.ok_in(&folder, &["install"]);
    }
    folder
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The line that publishes.
fn publish(name: &str) -> &'static str {
    match name {
        "pnpm-12" => "publish --no-git-checks",
        "yarn-1" => "publish --non-interactive",
        "yarn-4" => "npm publish",
        _ => "publish",
    }
}

fn asks_for_code(name: &str) -> &'static str {
    match name {
        "yarn-1" => "npm one-time password",
        "yarn-4" => "One-time password",
        _ => "Enter OTP",
    }
}

impl World {
    fn versions(&self, handle: &Handle) -> Vec<String> {
        let packument = handle.block_on(self.registry.get("/mine")).assert(200);
        let packument: Value = packument.json();
        let versions = packument["versions"].as_object().unwrap();
        versions.keys().cloned().collect()
    }

    /// Answers the page that `text` names with a code, as a browser would.
    fn confirm_in_browser(&self, handle: &Handle, text: &str) {
        let marker = "/-/v1/login_cli/";
        let from = text.rfind(marker).unwrap();
        // Clients paint it.
        let path = &text[from..from + marker.len() + 36];
        let form = self
            .registry
            .request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("otp={}", self.fresh_code()));
        handle.block_on(self.registry.send(form)).assert(200);
    }
}

/// A release with a code on the command line, one with a code that is typed, and none without.
async fn publishes_with_codes(name: &'static str) {
    let world = World::with("auth-and-writes", WITHOUT_BROWSER).await;
    beside(move |handle| {
        let credentials = Credentials::Token(&world.alice.token);
        let client = configured(name, &world.registry.url, credentials);
        let line = publish(name);
        let folder = package(&client, "1.0.0");
        client.fails_in(&folder, &words(line));
        let with_code = format!("{line} --otp={}", world.fresh_code());
        client.ok_in(&folder, &words(&with_code));
        assert_eq!(world.versions(handle), ["1.0.0"]);
        let folder = package(&client, "1.0.1");
        let typed = Turn::answer(asks_for_code(name), |_| world.fresh_code());
        // Without it, Yarn asks for a new version too.
        let line = line.replace("--non-interactive", "--new-version 1.0.1");
        client.converse_in(&folder, &line, vec![typed]);
        assert_eq!(world.versions(handle), ["1.0.0", "1.0.1"]);
    })
    .await;
}

/// A release that is confirmed in the browser.
async fn publishes_with_a_browser(name: &'static str) {
    let world = World::with("auth-and-writes", IN_BROWSER).await;
    beside(move |handle| {
        let credentials = Credentials::Token(&world.alice.token);
        let client = configured(name, &world.registry.url, credentials);
        let folder = package(&client, "1.0.0");
        let confirmed = Turn::then("/-/v1/login_cli/", |text| {
            world.confirm_in_browser(handle, text);
        });
        let line = match name {
            "npm-8" => "publish --auth-type=web",
            _ => publish(name),
        };
        client.converse_in(&folder, line, vec![confirmed]);
        assert_eq!(world.versions(handle), ["1.0.0"]);
    })
    .await;
}

/// A login where the password alone is not enough.
async fn signs_in_with_a_code(name: &'static str) {
    let world = World::with("auth-only", WITHOUT_BROWSER).await;
    beside(move |_| {
        let client = configured(name, &world.registry.url, Credentials::None);
        let line = match name {
            "pnpm-12" => "login",
            "yarn-4" => "npm login",
            _ => "login --auth-type=legacy",
        };
        let turns = || {
            let mut turns = vec![
                Turn::new("sername", "alice"),
                Turn::new("assword", "password"),
            ];
            if name == "pnpm-12" {
                turns.push(Turn::new("Email", "alice@example.com"));
            }
            turns.push(Turn::answer(asks_for_code(name), |_| world.fresh_code()));
            turns
        };
        client.converse(line, turns());
        let whoami = match name {
            "yarn-4" => client.ok(&["npm", "whoami"]),
            _ => client.ok(&["whoami"]),
        };
        assert!(whoami.contains("alice"), "{whoami}");
        if name == "npm-12" {
            // Again, with the token of the first time.
            client.converse(line, turns());
        }
    })
    .await;
}

/// A name and a password in place of a token, to read what not everybody may and to publish.
async fn works_with_a_name_and_a_password(name: &'static str) {
    let file = "packages:\n  '**':\n    access: $authenticated\n    publish: $authenticated\n";
    let registry = Registry::with_file(file).await;
    let alice = registry.user("alice").await;
    let needed = Package::new("needed", "1.0.0");
    registry.publish(&alice, &needed).await.assert(201);
    let url = registry.url.clone();
    beside(move |_| {
        let manifest =
            json!({ "name": "p", "version": "1.0.0", "dependencies": { "needed": "1" } });
        let stranger = configured(name, &url, Credentials::None);
        let folder = stranger.project("project", &manifest);
        stranger.fails_in(&folder, &["install"]);
        let client = configured(name, &url, Credentials::Basic("alice:password"));
        let folder = client.project("project", &manifest);
        client.ok_in(&folder, &["install"]);
        assert!(folder.join("node_modules/needed/package.json").is_file());
        let folder = package(&client, "1.0.0");
        client.ok_in(&folder, &words(publish(name)));
    })
    .await;
    registry.get_as(&alice, "/mine").await.assert(200);
}

/// Turns a second factor on and off again.
async fn turns_it_on_and_off(name: &'static str) {
    let clock = clock();
    let registry = Registry::at(&clock, WITHOUT_BROWSER).await;
    let alice = registry.user("alice").await;
    let url = registry.url.clone();
    beside(move |_| {
        let client = configured(name, &url, Credentials::Token(&alice.token));
        let tfa = || -> Value {
            let profile = client.ok(&["profile", "get", "--json"]);
            let profile: Value = serde_json::from_str(&profile).unwrap();
            profile["tfa"].clone()
        };
        assert_eq!(tfa(), false);
        let device = std::cell::OnceCell::new();
        let turns = vec![
            Turn::new("assword:", "password"),
            Turn::answer("OTP code from your authenticator", |text| {
                code_at(device.get_or_init(|| device_of(text)), &clock)
            }),
        ];
        let said = client.converse("profile enable-2fa auth-and-writes", turns);
        let codes = said.split_once("recovery codes").unwrap().1;
        let is_code = |line: &&str| line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit());
        assert_eq!(
            codes.lines().map(str::trim).filter(is_code).count(),
            10,
            "{said}"
        );
        assert_eq!(
            tfa(),
            json!({ "pending": false, "mode": "auth-and-writes" })
        );
        let device = device.into_inner().unwrap();
        let fresh = |_: &str| {
            clock.advance(std::time::Duration::from_secs(90));
            code_at(&device, &clock)
        };
        client.fails_in(client.home(), &["profile", "set", "fullname", "Alice"]);
        // npm asks for a code where it is wanted, or knows before that it will be; pnpm and npm 6
        // want it at once.
        let change = |line: &str, wants_password: bool| {
            let mut turns = Vec::new();
            if wants_password {
                turns.push(Turn::new("assword:", "password"));
            }
            if name.starts_with("pnpm") || name == "npm-6" {
                client.converse(&format!("{line} --otp={}", fresh("")), turns);
                return;
            }
            let asks = match (client.major(), wants_password) {
                (..=10, true) => "Enter one-time password",
                _ => "Enter OTP",
            };
            turns.push(Turn::answer(asks, fresh));
            client.converse(line, turns);
        };
        change("profile set fullname Alice", false);
        // npm 6 falls over its own feet there.
        if name != "npm-6" {
            change("profile enable-2fa auth-only", true);
            assert_eq!(tfa(), json!({ "pending": false, "mode": "auth-only" }));
        }
        change("profile disable-2fa", true);
        assert_eq!(tfa(), false);
    })
    .await;
}

/// The device of somebody who types what stands below the QR code.
fn device_of(text: &str) -> Totp {
    let marker = "enter code:";
    let from = text.find(marker).unwrap() + marker.len();
    let secret = text[from..].split_whitespace().next().unwrap();
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    Builder::new().with_secret(secret).build().unwrap()
}

macro_rules! tests {
    ($($test:ident $play:ident $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$play($name).await;
            }
        )*
    };
}

/// The newest of each; these run always.
mod newest {
    tests! {
        npm_12_publishes_with_codes publishes_with_codes "npm-12",
        pnpm_12_publishes_with_codes publishes_with_codes "pnpm-12",
        yarn_1_publishes_with_codes publishes_with_codes "yarn-1",
        yarn_4_publishes_with_codes publishes_with_codes "yarn-4",
        bun_1_publishes_with_codes publishes_with_codes "bun-1",
        npm_12_publishes_with_a_browser publishes_with_a_browser "npm-12",
        pnpm_12_publishes_with_a_browser publishes_with_a_browser "pnpm-12",
        bun_1_publishes_with_a_browser publishes_with_a_browser "bun-1",
        npm_12_signs_in_with_a_code signs_in_with_a_code "npm-12",
        pnpm_12_signs_in_with_a_code signs_in_with_a_code "pnpm-12",
        yarn_4_signs_in_with_a_code signs_in_with_a_code "yarn-4",
        npm_12_works_with_a_name_and_a_password works_with_a_name_and_a_password "npm-12",
        pnpm_12_works_with_a_name_and_a_password works_with_a_name_and_a_password "pnpm-12",
        yarn_1_works_with_a_name_and_a_password works_with_a_name_and_a_password "yarn-1",
        yarn_4_works_with_a_name_and_a_password works_with_a_name_and_a_password "yarn-4",
        bun_1_works_with_a_name_and_a_password works_with_a_name_and_a_password "bun-1",
        npm_12_turns_it_on_and_off turns_it_on_and_off "npm-12",
        pnpm_12_turns_it_on_and_off turns_it_on_and_off "pnpm-12",
    }

    use super::*;

    /// npm asks whether it was confirmed with the method of the call that was challenged.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12_moves_a_tag_with_a_browser() {
        let world = World::with("auth-and-writes", IN_BROWSER).await;
        let code = world.fresh_code();
        for version in ["1.0.0", "1.1.0"] {
            let published = world.publish(&world.alice, version, Some(&code)).await;
            published.assert(201);
        }
        beside(move |handle| {
            let credentials = Credentials::Token(&world.alice.token);
            let npm = configured("npm-12", &world.registry.url, credentials);
            let confirmed = Turn::then("/-/v1/login_cli/", |text| {
                world.confirm_in_browser(handle, text);
            });
            npm.converse("dist-tag add mine@1.0.0 latest", vec![confirmed]);
            let tags = npm.ok(&["dist-tag", "ls", "mine"]);
            assert_eq!(tags.trim(), "latest: 1.0.0");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12_without_a_terminal_says_where_to_confirm() {
        let world = World::with("auth-and-writes", IN_BROWSER).await;
        beside(move |_| {
            let credentials = Credentials::Token(&world.alice.token);
            let npm = configured("npm-12", &world.registry.url, credentials);
            let folder = package(&npm, "1.0.0");
            let output = npm.run_in(&folder, &["publish"]);
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("EOTP"), "{said}");
            assert!(
                said.contains("/-/web/login?next=/-/v1/login_cli/"),
                "{said}"
            );
            assert!(said.contains("/-/v1/done/"), "{said}");
        })
        .await;
    }
}

/// The others.
mod older {
    tests! {
        npm_6_publishes_with_codes publishes_with_codes "npm-6",
        npm_7_publishes_with_codes publishes_with_codes "npm-7",
        npm_8_publishes_with_codes publishes_with_codes "npm-8",
        npm_9_publishes_with_codes publishes_with_codes "npm-9",
        npm_10_publishes_with_codes publishes_with_codes "npm-10",
        npm_11_publishes_with_codes publishes_with_codes "npm-11",
        npm_8_publishes_with_a_browser publishes_with_a_browser "npm-8",
        npm_9_publishes_with_a_browser publishes_with_a_browser "npm-9",
        npm_10_publishes_with_a_browser publishes_with_a_browser "npm-10",
        npm_11_publishes_with_a_browser publishes_with_a_browser "npm-11",
        npm_6_works_with_a_name_and_a_password works_with_a_name_and_a_password "npm-6",
        npm_8_works_with_a_name_and_a_password works_with_a_name_and_a_password "npm-8",
        npm_10_works_with_a_name_and_a_password works_with_a_name_and_a_password "npm-10",
        npm_6_turns_it_on_and_off turns_it_on_and_off "npm-6",
        npm_7_turns_it_on_and_off turns_it_on_and_off "npm-7",
        npm_8_turns_it_on_and_off turns_it_on_and_off "npm-8",
        npm_9_turns_it_on_and_off turns_it_on_and_off "npm-9",
        npm_10_turns_it_on_and_off turns_it_on_and_off "npm-10",
        npm_11_turns_it_on_and_off turns_it_on_and_off "npm-11",
    }
}
