//! How clients are told to use this registry: the answer, its document, and the clients themselves.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Registry;

const DOCUMENT: &str = include_str!("../../docs/contracts/npm-bootstrap-v1.md");

async fn bootstrap(registry: &Registry, scope: &str) -> Value {
    let path = format!("/-/npm/v1/bootstrap?scope={scope}");
    registry.get(&path).await.assert(200).json()
}

/// The paths of all fields, with a dot between an object and its field.
fn fields(value: &Value, before: &str, into: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{before}{key}");
        fields(value, &format!("{path}."), into);
        into.insert(path);
    }
}

#[tokio::test]
async fn the_document_names_every_field_and_no_other() {
    let registry = Registry::alone().await;
    let mut answered = BTreeSet::new();
    fields(&bootstrap(&registry, "@acme").await, "", &mut answered);
    // A row of the table of fields begins with the field's name.
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(documented, answered);
}

#[tokio::test]
async fn the_document_shows_what_is_answered() {
    let variables = [("RUSTACCIO_PUBLIC_URL", "https://registry.example/npm")];
    let registry = Registry::start(&variables).await;
    let examples: Vec<Value> = DOCUMENT
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split_once("```").unwrap().0).unwrap())
        .collect();
    let [without, scoped] = examples.try_into().unwrap();
    assert_eq!(bootstrap(&registry, "").await, without);
    assert_eq!(bootstrap(&registry, "acme").await, scoped);
    assert_eq!(bootstrap(&registry, "@acme").await, scoped);
}

#[tokio::test]
async fn a_scope_that_would_do_harm_in_a_shell_is_refused() {
    let registry = Registry::alone().await;
    for scope in ["@a;rm", "$(id)", "a%20b", "a%0Ab", "@", "a/b", "'", "A"] {
        let path = format!("/-/npm/v1/bootstrap?scope={scope}");
        let refused = registry.get(&path).await;
        assert_eq!(refused.status, 400, "{scope}");
    }
}

#[tokio::test]
async fn the_way_to_sign_in_is_one_that_works() {
    let registry = Registry::alone().await;
    let hint = bootstrap(&registry, "").await["userHint"].clone();
    assert!(hint.as_str().unwrap().contains("--auth-type=legacy"));
    let registry = Registry::start(&[("RUSTACCIO_WEB_LOGIN", "true")]).await;
    let hint = bootstrap(&registry, "").await["userHint"].clone();
    assert!(!hint.as_str().unwrap().contains("--auth-type"));
}

#[cfg(feature = "test-clients")]
pub(crate) mod clients {
    use std::{fs, path::Path};

    use serde_json::json;

    use super::*;
    use crate::support::{Package, User, client::Client};

    /// A registry below a path where everything needs a token, with `@acme/lib` and `lib`.
    pub(crate) async fn private() -> (Registry, User) {
        let rules = "packages:\n  '**':\n    access: $authenticated\n    publish: $authenticated\n";
        let registry = Registry::with_file(&format!("url_prefix: /npm/private\n{rules}")).await;
        let alice = registry.user("alice").await;
        for name in ["lib", "@acme/lib"] {
            let package = Package::new(name, "1.0.0");
            registry.publish(&alice, &package).await.assert(201);
        }
        registry.get("/lib").await.assert(401);
        (registry, alice)
    }

    /// What somebody does with the snippets to install `name` with `client`.
    fn follow(
        client: &mut Client,
        snippets: &Value,
        token: &str,
        name: &str,
    ) -> std::path::PathBuf {
        let snippet = |key: &str| snippets[key].as_str().unwrap().to_owned();
        client.set("RUSTACCIO_NPM_TOKEN", token);
        let needs = json!({ name: "^1.0.0" });
        let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
        let folder = client.project("project", &manifest);
        match client.name.as_str() {
            "npm-12" | "pnpm-12" => {
                let family = client.name.split('-').next().unwrap().to_owned();
                // The file has the token, the command is another way to the registry's address.
                fs::write(client.home().join(".npmrc"), snippet("npmrc")).unwrap();
                shell(client, &folder, &snippet(&family));
            }
            "yarn-4" => {
                // As the second note says of what was published a moment ago.
                let lines = snippet("yarn") + "npmPreapprovedPackages: ['lib', '@acme/*']\n";
                fs::write(folder.join(".yarnrc.yml"), lines).unwrap();
                fs::write(folder.join("yarn.lock"), "").unwrap();
            }
            "bun-1" => fs::write(folder.join("bunfig.toml"), snippet("bun")).unwrap(),
            // As the second note says.
            "yarn-1" => {
                let lines = snippet("npmrc") + "always-auth=true\n";
                fs::write(folder.join(".npmrc"), lines).unwrap();
            }
            _ => fs::write(folder.join(".npmrc"), snippet("npmrc")).unwrap(),
        }
        folder
    }

    fn shell(client: &Client, folder: &Path, line: &str) {
        let output = client
            .command("sh", folder)
            .args(["-ec", line])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
    }

    async fn installs(name: &'static str) {
        let (registry, alice) = private().await;
        for (scope, package) in [("", "lib"), ("@acme", "@acme/lib")] {
            let snippets = bootstrap(&registry, scope).await["snippets"].clone();
            let token = alice.token.clone();
            let work = move || {
                let mut client = Client::new(name);
                let folder = follow(&mut client, &snippets, &token, package);
                match client.name.as_str() {
                    "deno-2" => client.ok_in(&folder, &["install", "--minimum-dependency-age=0"]),
                    _ => client.ok_in(&folder, &["install"]),
                };
                let installed = folder.join("node_modules").join(package);
                let is_there =
                    installed.join("package.json").is_file() || folder.join(".pnp.cjs").is_file();
                assert!(is_there, "{package}");
            };
            tokio::task::spawn_blocking(work).await.unwrap();
        }
    }

    macro_rules! clients {
        ($($test:ident $name:literal),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    installs($name).await;
                }
            )*
        };
    }

    clients! {
        npm_12 "npm-12",
        pnpm_12 "pnpm-12",
        yarn_1 "yarn-1",
        yarn_4 "yarn-4",
        bun_1 "bun-1",
        deno_2 "deno-2",
    }

    /// `.npmrc` alone does it as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npmrc_alone_is_enough_for_npm_12() {
        let (registry, alice) = private().await;
        let snippets = bootstrap(&registry, "").await["snippets"].clone();
        let work = move || {
            let mut npm = Client::new("npm-12");
            npm.set("RUSTACCIO_NPM_TOKEN", &alice.token);
            let npmrc = snippets["npmrc"].as_str().unwrap();
            fs::write(npm.home().join(".npmrc"), npmrc).unwrap();
            assert_eq!(npm.ok(&["whoami"]).trim(), "alice");
            npm.ok(&["view", "@acme/lib", "version"]);
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    }
}
