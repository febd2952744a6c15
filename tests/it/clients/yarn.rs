//! Yarn: 1, and 4 which is another program.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::{
    Cannot, Command, Outcome, Works,
    installing::{self, Address, Installer, alice},
    scene::{PASSWORD, Scene, package, project},
};
use crate::support::client::{Client, Turn};

pub(super) struct Classic;

pub(super) struct Modern;

impl Installer for Classic {
    fn point(&self, client: &mut Client, at: Address<'_>) {
        // Without `always-auth` it sends no token for packages without a scope.
        client.configure(".npmrc", &at.npmrc());
        client.configure(".npmrc", "always-auth=true\n");
        client.configure(
            ".yarnrc",
            &format!("registry \"{}/\"\ndisable-self-update-check true\n", at.url),
        );
    }

    fn install(&self) -> Vec<&'static str> {
        vec!["install", "--non-interactive"]
    }

    fn ci(&self) -> Vec<&'static str> {
        vec!["install", "--non-interactive", "--frozen-lockfile"]
    }

    fn lockfile(&self) -> &'static str {
        "yarn.lock"
    }

    fn caches(&self) -> &'static [&'static str] {
        &[".cache"]
    }
}

impl Installer for Modern {
    fn point(&self, client: &mut Client, at: Address<'_>) {
        let mut lines = format!(
            "npmRegistryServer: \"{}\"\nnodeLinker: node-modules\nenableTelemetry: false\n\
             httpRetry: 0\nenableImmutableInstalls: false\n",
            at.url
        );
        if at.url.starts_with("http:") {
            lines.push_str("unsafeHttpWhitelist:\n  - \"127.0.0.1\"\n");
        }
        if let Some(token) = at.token {
            lines.push_str(&format!("npmAuthToken: \"{token}\"\nnpmAlwaysAuth: true\n"));
        }
        if let Some(file) = at.authority {
            lines.push_str(&format!("httpsCaFilePath: \"{}\"\n", file.display()));
        }
        client.configure(".yarnrc.yml", &lines);
    }

    fn trust_what_is_new(&self, client: &mut Client) {
        client.set("YARN_NPM_MINIMAL_AGE_GATE", "0");
    }

    fn install(&self) -> Vec<&'static str> {
        vec!["install"]
    }

    fn ci(&self) -> Vec<&'static str> {
        vec!["install", "--immutable"]
    }

    fn lockfile(&self) -> &'static str {
        "yarn.lock"
    }

    fn caches(&self) -> &'static [&'static str] {
        &[".yarn"]
    }
}

pub(super) fn run(command: Command, scene: &Scene) -> Outcome {
    match scene.client().major() {
        1 => classic(command, scene),
        _ => modern(command, scene),
    }
}

fn classic(command: Command, scene: &Scene) -> Outcome {
    if let Some(outcome) = installing::run(command, scene, &Classic) {
        return outcome;
    }
    let yarn = alice(scene, &Classic);
    match command {
        Command::Publish => publish(scene, &yarn, &["publish", "--non-interactive"]),
        Command::Republish => republish(&yarn, &["publish", "--non-interactive"]),
        Command::DistTag => dist_tag(scene, &yarn, &["tag"], "remove"),
        Command::Owner => {
            classic_owner(scene, &yarn);
            return Cannot("`owner remove` gives up where it finds the owner; the rest works");
        }
        Command::LoginByPassword => classic_login(scene),
        Command::Logout => {
            return Cannot("`yarn logout` only forgets what it was told; it revokes nothing");
        }
        Command::View => view(scene, &yarn, &["info"]),
        Command::Audit => return Cannot("`yarn audit` only asks the public registry of Yarn"),
        Command::Deprecate => return Cannot("it has no `deprecate`"),
        Command::Unpublish => return Cannot("it has no `unpublish`"),
        Command::LoginInBrowser => return Cannot("it logs in with a password only"),
        Command::Token => return Cannot("it has no `token`"),
        Command::Profile => return Cannot("it has no `profile`"),
        Command::Search => return Cannot("it has no `search`"),
        Command::Ping => return Cannot("it has no `ping`"),
        Command::Whoami => return Cannot("it has no `whoami`"),
        Command::Install
        | Command::InstallScoped
        | Command::InstallBelowPrefix
        | Command::InstallBehindTls
        | Command::Ci => panic!("done above"),
    }
    Works
}

fn modern(command: Command, scene: &Scene) -> Outcome {
    if let Some(outcome) = installing::run(command, scene, &Modern) {
        return outcome;
    }
    let yarn = alice(scene, &Modern);
    match command {
        Command::Publish => publish(scene, &yarn, &["npm", "publish", "--access=public"]),
        Command::Republish => republish(&yarn, &["npm", "publish"]),
        Command::DistTag => dist_tag(scene, &yarn, &["npm", "tag"], "remove"),
        Command::LoginByPassword => modern_login(scene),
        Command::LoginInBrowser => modern_login_in_browser(scene),
        Command::Logout => modern_logout(scene),
        Command::View => view(scene, &yarn, &["npm", "info"]),
        Command::Audit => audit(&yarn),
        Command::Whoami => {
            let said = in_project(&yarn, &["npm", "whoami"]);
            assert!(said.contains("alice"), "{said}");
        }
        Command::Deprecate => return Cannot("it has no `deprecate`"),
        Command::Unpublish => return Cannot("it has no `unpublish`"),
        Command::Owner => return Cannot("it has no `owner`"),
        Command::Token => return Cannot("it has no `token`"),
        Command::Profile => return Cannot("it has no `profile`"),
        Command::Search => return Cannot("`yarn search` asks a service of its own"),
        Command::Ping => return Cannot("it has no `ping`"),
        Command::Install
        | Command::InstallScoped
        | Command::InstallBelowPrefix
        | Command::InstallBehindTls
        | Command::Ci => panic!("done above"),
    }
    Works
}

/// Runs it in a project, which Yarn 4 needs for everything.
#[track_caller]
fn in_project(yarn: &Client, arguments: &[&str]) -> String {
    let folder = yarn.project("here", &project("here", &[]));
    fs::write(folder.join("yarn.lock"), "").unwrap();
    yarn.ok_in(&folder, arguments)
}

/// A package in a folder; Yarn 4 publishes what it has installed.
fn to_publish(yarn: &Client, folder: &str, name: &str) -> PathBuf {
    let folder = yarn.project(folder, &package(name, "1.0.0"));
    fs::write(folder.join("yarn.lock"), "").unwrap();
    yarn.ok_in(&folder, &["install"]);
    folder
}

fn publish(scene: &Scene, yarn: &Client, publish: &[&str]) {
    for (folder, name) in [("one", "published"), ("two", "@acme/published")] {
        let folder = to_publish(yarn, folder, name);
        yarn.ok_in(&folder, publish);
        let packument = scene.packument(name);
        assert_eq!(packument["dist-tags"]["latest"], "1.0.0");
        assert_eq!(packument["versions"]["1.0.0"]["license"], "MIT");
    }
}

fn republish(yarn: &Client, publish: &[&str]) {
    let folder = to_publish(yarn, "package", "republished");
    yarn.ok_in(&folder, publish);
    let again = yarn.fails_in(&folder, publish);
    assert!(
        again.contains("over the previously published versions"),
        "{again}"
    );
}

fn dist_tag(scene: &Scene, yarn: &Client, tag: &[&str], remove: &str) {
    for name in ["tagged", "@acme/tagged"] {
        scene.publish(name, &["1.0.0", "1.1.0"]);
        let one = format!("{name}@1.0.0");
        in_project(yarn, &[tag, &["add", &one, "stable"]].concat());
        let tags = scene.get(&format!(
            "/-/package/{}/dist-tags",
            name.replace('/', "%2f")
        ));
        assert_eq!(tags.json()["stable"], "1.0.0");
        let tags = in_project(yarn, &[tag, &["list", name]].concat());
        assert!(tags.contains("stable") && tags.contains("1.1.0"), "{tags}");
        in_project(yarn, &[tag, &[remove, name, "stable"]].concat());
        let tags = scene.get(&format!(
            "/-/package/{}/dist-tags",
            name.replace('/', "%2f")
        ));
        assert!(tags.json()["stable"].is_null());
    }
}

fn view(scene: &Scene, yarn: &Client, info: &[&str]) {
    scene.publish("@acme/viewed", &["1.0.0", "1.1.0"]);
    let said = in_project(yarn, &[info, &["@acme/viewed", "--json"]].concat());
    let line = said.lines().next().unwrap();
    let said: Value = serde_json::from_str(line).unwrap();
    let found = match said.get("data") {
        Some(data) => data,
        None => &said,
    };
    assert_eq!(found["version"], "1.1.0");
}

fn audit(yarn: &Client) {
    let folder = yarn.project("project", &project("project", &["leaky", "left"]));
    yarn.ok_in(&folder, &["install"]);
    let report = yarn.run_in(&folder, &["npm", "audit", "--all", "--recursive"]);
    let report = String::from_utf8_lossy(&report.stdout);
    assert!(report.contains("it leaks"), "{report}");
}

fn classic_owner(scene: &Scene, yarn: &Client) {
    scene.wait(scene.world.plain.user("bob"));
    scene.publish("owned", &["1.0.0"]);
    in_project(yarn, &["owner", "add", "bob", "owned"]);
    let owners = in_project(yarn, &["owner", "list", "owned"]);
    assert!(
        owners.contains("alice") && owners.contains("bob"),
        "{owners}"
    );
}

/// Its `login` only asks for a name; it signs in where it publishes, and out again after that.
fn classic_login(scene: &Scene) {
    let mut yarn = scene.client();
    Classic.point(&mut yarn, Address::of(&scene.world.below_prefix.url));
    let folder = yarn.project("package", &package("by-carol", "1.0.0"));
    let command = format!("--cwd {} publish --new-version 1.0.0", folder.display());
    let turns = vec![
        Turn::new("username", "carol"),
        Turn::new("email", "carol@example.com"),
        Turn::new("password", PASSWORD),
    ];
    yarn.converse(&command, turns);
    let packument = scene.wait(scene.world.below_prefix.get("/by-carol"));
    assert_eq!(packument.assert(200).json()["dist-tags"]["latest"], "1.0.0");
}

fn modern_login(scene: &Scene) {
    let mut yarn = scene.client();
    Modern.point(&mut yarn, Address::of(&scene.world.below_prefix.url));
    let turns = || {
        vec![
            Turn::new("sername", "carol"),
            Turn::new("assword", PASSWORD),
        ]
    };
    yarn.converse("npm login", turns());
    let said = in_project(&yarn, &["npm", "whoami"]);
    assert!(said.contains("carol"), "{said}");
    yarn.converse("npm login", turns());
}

fn modern_login_in_browser(scene: &Scene) {
    let mut yarn = scene.client();
    Modern.point(&mut yarn, Address::of(&scene.world.plain.url));
    let turns = vec![
        Turn::new("open your browser", "n"),
        Turn::then("/-/v1/login_cli/", |text| scene.sign_in_at_page(text)),
    ];
    yarn.converse("npm login --web-login", turns);
    let said = in_project(&yarn, &["npm", "whoami"]);
    assert!(said.contains("alice"), "{said}");
}

fn modern_logout(scene: &Scene) {
    let mut yarn = scene.client();
    Modern.point(&mut yarn, Address::of(&scene.world.plain.url));
    let turns = vec![
        Turn::new("sername", "alice"),
        Turn::new("assword", PASSWORD),
    ];
    yarn.converse("npm login", turns);
    in_project(&yarn, &["npm", "logout"]);
    let folder = yarn.project("here", &project("here", &[]));
    yarn.fails_in(&folder, &["npm", "whoami"]);
}
