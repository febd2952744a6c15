//! npm, from version 6 on.

use serde_json::Value;

use super::{
    Command, Outcome, Works,
    installing::{self, Address, Installer, alice},
    scene::{PASSWORD, Scene, package, project},
};
use crate::support::client::{Client, Turn, in_one_line};

pub(super) struct Npm;

impl Installer for Npm {
    fn point(&self, client: &mut Client, at: Address<'_>) {
        client.configure(".npmrc", &at.npmrc());
        client.configure(
            ".npmrc",
            "update-notifier=false\nfund=false\naudit=false\nfetch-retries=0\n",
        );
    }

    fn install(&self) -> Vec<&'static str> {
        vec!["install"]
    }

    fn ci(&self) -> Vec<&'static str> {
        vec!["ci"]
    }

    fn lockfile(&self) -> &'static str {
        "package-lock.json"
    }

    fn caches(&self) -> &'static [&'static str] {
        &[".npm"]
    }
}

pub(super) fn run(command: Command, scene: &Scene) -> Outcome {
    if let Some(outcome) = installing::run(command, scene, &Npm) {
        return outcome;
    }
    match command {
        Command::LoginByPassword => return login_by_password(scene),
        Command::LoginInBrowser => return login_in_browser(scene),
        _ => {}
    }
    run_as_alice(command, scene, &alice(scene, &Npm));
    Works
}

/// What `npm` does for somebody who is signed in.
pub(super) fn run_as_alice(command: Command, scene: &Scene, npm: &Client) {
    match command {
        Command::Publish => publish(scene, npm),
        Command::Republish => republish(npm),
        Command::DistTag => dist_tag(scene, npm),
        Command::Deprecate => deprecate(scene, npm),
        Command::Unpublish => unpublish(scene, npm),
        Command::Owner => owner(scene, npm),
        Command::Logout => logout(scene, npm),
        Command::Token => token(scene, npm),
        Command::Profile => profile(npm),
        Command::Audit => audit(npm),
        Command::Search => search(scene, npm),
        Command::View => view(scene, npm),
        Command::Ping => {
            npm.ok(&["ping"]);
        }
        Command::Whoami => assert_eq!(npm.ok(&["whoami"]).trim(), "alice"),
        Command::Install
        | Command::InstallScoped
        | Command::InstallBelowPrefix
        | Command::InstallBehindTls
        | Command::Ci
        | Command::LoginByPassword
        | Command::LoginInBrowser => panic!("{command:?} is not done as alice"),
    }
}

fn publish(scene: &Scene, npm: &Client) {
    for name in ["published", "@acme/published"] {
        let folder = npm.project("package", &package(name, "1.0.0"));
        npm.ok_in(&folder, &["publish", "--access=public"]);
        npm.project("package", &package(name, "1.1.0-beta.1"));
        npm.ok_in(&folder, &["publish", "--tag=beta"]);
        let packument = scene.packument(name);
        assert_eq!(packument["dist-tags"]["latest"], "1.0.0");
        assert_eq!(packument["dist-tags"]["beta"], "1.1.0-beta.1");
        assert_eq!(packument["versions"]["1.0.0"]["license"], "MIT");
    }
}

fn republish(npm: &Client) {
    let folder = npm.project("package", &package("republished", "1.0.0"));
    npm.ok_in(&folder, &["publish"]);
    let again = npm.fails_in(&folder, &["publish"]);
    let again = in_one_line(&again);
    let says_why = again.contains("over the previously published versions")
        || again.contains("over existing version");
    assert!(says_why, "{again}");
}

fn dist_tag(scene: &Scene, npm: &Client) {
    for name in ["tagged", "@acme/tagged"] {
        scene.publish(name, &["1.0.0", "1.1.0"]);
        npm.ok(&["dist-tag", "add", &format!("{name}@1.0.0"), "stable"]);
        let tags = npm.ok(&["dist-tag", "ls", name]);
        assert!(
            tags.contains("stable: 1.0.0") && tags.contains("latest: 1.1.0"),
            "{tags}"
        );
        npm.ok(&["dist-tag", "rm", name, "stable"]);
        let tags = npm.ok(&["dist-tag", "ls", name]);
        assert_eq!(tags.trim(), "latest: 1.1.0");
    }
}

fn deprecate(scene: &Scene, npm: &Client) {
    scene.publish("deprecated", &["1.0.0", "2.0.0"]);
    npm.ok(&["deprecate", "deprecated@<2.0.0", "too old"]);
    let versions = &scene.packument("deprecated")["versions"];
    assert_eq!(versions["1.0.0"]["deprecated"], "too old");
    assert!(versions["2.0.0"]["deprecated"].is_null());
    let folder = npm.project("project", &project("project", &[]));
    let output = npm.run_in(&folder, &["install", "deprecated@1"]);
    let warned = [&output.stdout[..], &output.stderr].concat();
    let warned = String::from_utf8_lossy(&warned);
    // pnpm 12 only says that it is.
    let has_warned = warned.contains("too old") || warned.contains("deprecated deprecated@1.0.0");
    assert!(has_warned, "{warned}");
    match npm.name.as_str() {
        "pnpm-11" | "pnpm-12" => npm.ok(&["undeprecate", "deprecated@<2.0.0"]),
        _ => npm.ok(&["deprecate", "deprecated@<2.0.0", ""]),
    };
    let versions = &scene.packument("deprecated")["versions"];
    let is_deprecated = versions["1.0.0"]["deprecated"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    assert!(!is_deprecated, "{versions}");
}

fn unpublish(scene: &Scene, npm: &Client) {
    for name in ["unpublished", "@acme/unpublished"] {
        scene.publish(name, &["1.0.0", "1.1.0"]);
        npm.ok(&["unpublish", &format!("{name}@1.1.0")]);
        let packument = scene.packument(name);
        assert_eq!(packument["dist-tags"]["latest"], "1.0.0");
        assert!(packument["versions"]["1.1.0"].is_null());
        let base = name.rsplit('/').next().unwrap();
        let tarball = |version: &str| format!("/{name}/-/{base}-{version}.tgz");
        scene.get(&tarball("1.1.0")).assert(404);
        scene.get(&tarball("1.0.0")).assert(200);
        npm.ok(&["unpublish", name, "--force"]);
        scene.get(&format!("/{name}")).assert(404);
        scene.get(&tarball("1.0.0")).assert(404);
    }
}

fn owner(scene: &Scene, npm: &Client) {
    scene.wait(scene.world.plain.user("bob"));
    scene.publish("owned", &["1.0.0"]);
    // pnpm names the package first where it does not leave this to npm.
    let whom: [&str; 2] = match npm.name.as_str() {
        "pnpm-11" | "pnpm-12" => ["owned", "bob"],
        _ => ["bob", "owned"],
    };
    npm.ok(&[&["owner", "add"][..], &whom].concat());
    let owners = npm.ok(&["owner", "ls", "owned"]);
    assert!(
        owners.contains("alice") && owners.contains("bob"),
        "{owners}"
    );
    npm.ok(&[&["owner", "rm"][..], &whom].concat());
    let owners = npm.ok(&["owner", "ls", "owned"]);
    assert!(
        owners.contains("alice") && !owners.contains("bob"),
        "{owners}"
    );
}

fn login_by_password(scene: &Scene) -> Outcome {
    // npm up to version 8 goes through the browser wherever it can, whatever one tells it.
    let url = &scene.world.below_prefix.url;
    let mut npm = scene.client();
    Npm.point(&mut npm, Address::of(url));
    let turns = |password| {
        vec![
            Turn::new("sername:", "carol"),
            Turn::new("assword:", password),
            Turn::new("mail", "carol@example.com"),
        ]
    };
    let register = if npm.major() < 12 { "adduser" } else { "login" };
    npm.converse(&format!("{register} --auth-type=legacy"), turns(PASSWORD));
    assert_eq!(npm.ok(&["whoami"]).trim(), "carol");
    let mut again = scene.client();
    Npm.point(&mut again, Address::of(url));
    let (text, is_ok) = again.talk("login --auth-type=legacy", turns("a wrong guess"));
    assert!(
        !is_ok && text.contains("bad username/password, access denied"),
        "{text}"
    );
    again.converse("login --auth-type=legacy", turns(PASSWORD));
    assert_eq!(again.ok(&["whoami"]).trim(), "carol");
    Works
}

fn login_in_browser(scene: &Scene) -> Outcome {
    let mut npm = scene.client();
    Npm.point(&mut npm, Address::of(&scene.world.plain.url));
    npm.configure(".npmrc", "browser=false\n");
    let turns = vec![Turn::then("/-/v1/login_cli/", |text| {
        scene.sign_in_at_page(text);
    })];
    npm.converse("login", turns);
    assert_eq!(npm.ok(&["whoami"]).trim(), "alice");
    Works
}

fn logout(scene: &Scene, npm: &Client) {
    let url = &scene.world.plain.url;
    let token = scene.wait(scene.world.plain.user("dave")).token;
    npm.sign_in_with(url, &token);
    assert_eq!(npm.ok(&["whoami"]).trim(), "dave");
    npm.ok(&["logout"]);
    assert!(!scene.is_signed_in(&token));
    npm.fails_in(npm.home(), &["whoami"]);
}

fn token(scene: &Scene, npm: &Client) {
    let create = match npm.name.as_str() {
        // It asks for no password.
        "pnpm-12" => "token create --read-only",
        "npm-11" | "npm-12" => {
            "token create --name=ci --packages-all --packages-and-scopes-permission=read-only"
        }
        _ => "token create --readonly",
    };
    let said = npm.converse(create, vec![Turn::new("assword:", PASSWORD)]);
    let made = said.find("rca_").unwrap_or_else(|| panic!("{said}"));
    let made: String = said[made..]
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect();
    assert!(scene.is_signed_in(&made), "{said}");
    let listed: Value = serde_json::from_str(&npm.ok(&["token", "list", "--json"])).unwrap();
    let listed = listed.as_array().unwrap();
    let found = listed
        .iter()
        .find(|token| made.starts_with(token["token"].as_str().unwrap()))
        .unwrap_or_else(|| panic!("{listed:?} has no {made}"));
    assert_eq!(found["readonly"], true);
    npm.ok(&["token", "revoke", found["key"].as_str().unwrap()]);
    assert!(!scene.is_signed_in(&made));
}

fn profile(npm: &Client) {
    let get = |npm: &Client| -> Value {
        serde_json::from_str(&npm.ok(&["profile", "get", "--json"])).unwrap()
    };
    assert_eq!(get(npm)["name"], "alice");
    npm.ok(&["profile", "set", "fullname", "Alice Liddell"]);
    assert_eq!(get(npm)["fullname"], "Alice Liddell");
    npm.ok(&["profile", "set", "fullname", "A. Liddell"]);
    assert_eq!(get(npm)["fullname"], "A. Liddell");
}

fn audit(npm: &Client) {
    let folder = npm.project("project", &project("project", &["leaky", "left"]));
    npm.ok_in(&folder, &["install"]);
    // Whether it fails of what it finds depends on the version.
    let report = npm.run_in(&folder, &["audit"]);
    let report = String::from_utf8_lossy(&report.stdout);
    assert!(report.contains("it leaks"), "{report}");
}

fn search(scene: &Scene, npm: &Client) {
    scene.publish("searched", &["1.0.0"]);
    let found = npm.ok(&["search", "findable", "--json"]);
    assert!(found.contains("\"searched\""), "{found}");
}

fn view(scene: &Scene, npm: &Client) {
    scene.publish("@acme/viewed", &["1.0.0", "1.1.0"]);
    let version = npm.ok(&["view", "@acme/viewed", "version"]);
    assert_eq!(version.trim(), "1.1.0");
    let needs = npm.ok(&["view", "left@1.0.0", "dependencies", "--json"]);
    assert!(needs.contains("@up/right"), "{needs}");
    let missing = npm.fails_in(npm.home(), &["view", "no-such-package"]);
    assert!(missing.contains("404"), "{missing}");
}
