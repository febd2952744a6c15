//! What one client publishes, all of them install.

use std::{fs, sync::Arc};

use super::{
    installing::{Address, alice},
    scene::{Scene, World, package, project},
};

const NEWEST: [&str; 6] = ["npm-12", "pnpm-12", "yarn-1", "yarn-4", "bun-1", "deno-2"];

/// Publishes a package without a scope and one with it, and says which.
fn publish(scene: &Scene) -> Vec<String> {
    let client = alice(scene, super::installer(scene.name));
    let publish: &[&str] = match scene.name {
        "yarn-1" => &["publish", "--non-interactive"],
        "yarn-4" => &["npm", "publish"],
        // It publishes elsewhere.
        "deno-2" => return Vec::new(),
        _ => &["publish"],
    };
    let names = ["", "@acme/"].map(|scope| format!("{scope}by-{}", scene.name));
    for (folder, name) in ["one", "two"].iter().zip(&names) {
        let folder = client.project(folder, &package(name, "1.0.0"));
        fs::write(folder.join("index.js"), code(name)).unwrap();
        if scene.name == "yarn-4" {
            fs::write(folder.join("yarn.lock"), "").unwrap();
            client.ok_in(&folder, &["install"]);
        }
        client.ok_in(&folder, publish);
    }
    names.to_vec()
}

fn code(name: &str) -> String {
    format!("module.exports = '{name}'\n")
}

fn install(scene: &Scene, names: &[String]) {
    let installer = super::installer(scene.name);
    let mut client = scene.client();
    installer.point(&mut client, Address::of(&scene.world.plain.url));
    installer.trust_what_is_new(&mut client);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = client.project("project", &project("project", &names));
    let mut arguments = installer.install();
    if scene.name == "deno-2" {
        // They are a moment old.
        arguments.push("--minimum-dependency-age=0");
    }
    client.ok_in(&folder, &arguments);
    for name in names {
        let file = folder.join("node_modules").join(name).join("index.js");
        let found = fs::read_to_string(file).unwrap_or_default();
        assert_eq!(found, code(name), "{} installs {name}", scene.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_installs_what_the_others_publish() {
    let world = Arc::new(World::start().await);
    let scenes = NEWEST.map(|name| Scene::new(name, Arc::clone(&world)));
    let work = move || {
        let names: Vec<String> = scenes.iter().flat_map(publish).collect();
        assert_eq!(names.len(), 10);
        for scene in &scenes {
            install(scene, &names);
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}
