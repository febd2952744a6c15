//! Pages that are followed to the letter, each with a real client.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    pages::{Block, pages},
    root,
};
use crate::{
    bootstrap::clients::private,
    support::{
        Package, Registry, Upstream,
        client::{Client, Turn},
    },
};

/// The blocks of this kind on a page, for a registry at `ours` in place of `theirs`.
fn blocks(page: &str, kind: &str, theirs: &str, ours: &str) -> Vec<String> {
    // `.npmrc` names registries without the scheme.
    let after_scheme = |url: &str| format!("{}/", url.split_once(':').unwrap().1);
    let text = |block: &Block| {
        let text = block
            .text
            .replace(&format!("{theirs}/"), &format!("{ours}/"));
        text.replace(&after_scheme(theirs), &after_scheme(ours))
    };
    let pages = pages(root());
    let page = pages.iter().find(|known| known.name == page).unwrap();
    let blocks = page.blocks.iter().filter(|block| block.info == kind);
    blocks.map(text).collect()
}

/// Types a line into a shell of `client` in `folder`, and says where that is then.
fn type_in(client: &Client, folder: &Path, line: &str) -> PathBuf {
    if let Some(arguments) = line.strip_prefix("npm login") {
        let turns = vec![
            Turn::new("sername", "alice"),
            Turn::new("assword", "s3cret-password"),
        ];
        client.converse_in(folder, &format!("login{arguments}"), turns);
        return folder.to_owned();
    }
    let output = client
        .command("sh", folder)
        .args(["-ec", &format!("{line}\npwd > ~/.folder")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    let folder = fs::read_to_string(client.home().join(".folder")).unwrap();
    folder.trim().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_five_minutes() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("left", "1.0.0")]);
    let file = format!("uplinks:\n  default:\n    url: {}\n", upstream.url);
    let registry = Registry::with_file(&file).await;
    let mut lines = blocks(
        "docs/first-minutes.md",
        "sh",
        "http://127.0.0.1:4873",
        &registry.url,
    );
    // It runs already.
    assert_eq!(lines.remove(0), "cargo run --release\n");
    let work = move || {
        let npm = Client::new("npm-12");
        // Whoever leaves the registry of the page meets nobody.
        npm.configure(".npmrc", "registry=http://127.0.0.1:9/\nfetch-retries=0\n");
        let needs = json!({ "left": "^1.0.0" });
        let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
        let project = npm.project("project", &manifest);
        let mut folder = project.clone();
        for line in lines.iter().flat_map(|block| block.lines()) {
            folder = type_in(&npm, &folder, line);
        }
        npm.ok_in(&project, &["install", "@acme/hello"]);
        for package in ["left", "@acme/hello"] {
            let file = project.join("node_modules").join(package);
            assert!(file.join("package.json").is_file(), "{package}");
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// Installs what is not for everybody, as a job does.
async fn job(name: &'static str) {
    let (registry, alice) = private().await;
    let block =
        |kind| blocks("docs/ci.md", kind, "https://npm.example.com", &registry.url).remove(0);
    let [npmrc, yarnrc, shell] = ["ini", "yaml yarn", "sh"].map(block);
    let work = move || {
        let mut client = Client::new(name);
        client.set("RUSTACCIO_NPM_TOKEN", &alice.token);
        let needs = json!({ "lib": "^1.0.0", "@acme/lib": "^1.0.0" });
        let manifest = json!({ "name": "project", "version": "1.0.0", "dependencies": needs });
        let folder = client.project("project", &manifest);
        let mut npmrc = npmrc;
        match name {
            "yarn-1" => npmrc.push_str("always-auth=true\n"),
            "yarn-4" => {
                let more = "npmPreapprovedPackages: ['lib', '@acme/*']\nnodeLinker: node-modules\n\
                    unsafeHttpWhitelist: ['127.0.0.1']\n";
                fs::write(folder.join(".yarnrc.yml"), yarnrc + more).unwrap();
                fs::write(folder.join("yarn.lock"), "").unwrap();
            }
            _ => {}
        }
        fs::write(folder.join(".npmrc"), npmrc).unwrap();
        type_in(&client, &folder, &shell);
        client.ok_in(&folder, &["install"]);
        for package in ["lib", "@acme/lib"] {
            let file = folder.join("node_modules").join(package);
            assert!(file.join("package.json").is_file(), "{name}: {package}");
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

macro_rules! jobs {
    ($($test:ident $name:literal),* $(,)?) => {
        mod jobs_read_what_needs_a_token {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::job($name).await;
                }
            )*
        }
    };
}

jobs! {
    npm_12 "npm-12",
    pnpm_12 "pnpm-12",
    yarn_1 "yarn-1",
    yarn_4 "yarn-4",
    bun_1 "bun-1",
}
