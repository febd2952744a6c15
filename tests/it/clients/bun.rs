//! Bun.

use super::{
    Cannot, Command, Outcome, Works,
    installing::{self, Address, Installer, alice},
    scene::{Scene, package, project},
};
use crate::support::client::Client;

pub(super) struct Bun;

impl Installer for Bun {
    fn point(&self, client: &mut Client, at: Address<'_>) {
        client.configure(".npmrc", &at.npmrc());
    }

    fn install(&self) -> Vec<&'static str> {
        vec!["install"]
    }

    fn ci(&self) -> Vec<&'static str> {
        vec!["install", "--frozen-lockfile"]
    }

    fn lockfile(&self) -> &'static str {
        "bun.lock"
    }

    fn caches(&self) -> &'static [&'static str] {
        &[".bun"]
    }
}

pub(super) fn run(command: Command, scene: &Scene) -> Outcome {
    if let Some(outcome) = installing::run(command, scene, &Bun) {
        return outcome;
    }
    let bun = alice(scene, &Bun);
    match command {
        Command::Publish => {
            for name in ["published", "@acme/published"] {
                let folder = bun.project("package", &package(name, "1.0.0"));
                bun.ok_in(&folder, &["publish", "--access=public"]);
                let packument = scene.packument(name);
                assert_eq!(packument["dist-tags"]["latest"], "1.0.0");
            }
        }
        Command::Republish => {
            let folder = bun.project("package", &package("republished", "1.0.0"));
            bun.ok_in(&folder, &["publish"]);
            let again = bun.fails_in(&folder, &["publish"]);
            assert!(again.contains("previously published"), "{again}");
        }
        Command::View => {
            scene.publish("@acme/viewed", &["1.0.0", "1.1.0"]);
            let folder = bun.project("here", &project("here", &[]));
            let said = bun.ok_in(&folder, &["pm", "view", "@acme/viewed", "version"]);
            assert_eq!(said.trim(), "1.1.0");
        }
        Command::Whoami => {
            let folder = bun.project("here", &project("here", &[]));
            let said = bun.ok_in(&folder, &["pm", "whoami"]);
            assert_eq!(said.trim(), "alice");
        }
        Command::Audit => {
            let folder = bun.project("project", &project("project", &["leaky", "left"]));
            bun.ok_in(&folder, &["install"]);
            let report = bun.fails_in(&folder, &["audit"]);
            assert!(report.contains("it leaks"), "{report}");
        }
        Command::DistTag => return Cannot("it has no `dist-tag`"),
        Command::Deprecate => return Cannot("it has no `deprecate`"),
        Command::Unpublish => return Cannot("it has no `unpublish`"),
        Command::Owner => return Cannot("it has no `owner`"),
        Command::LoginByPassword | Command::LoginInBrowser => {
            return Cannot("it has no `login`; it reads the token that npm wrote");
        }
        Command::Logout => return Cannot("it has no `logout`"),
        Command::Token => return Cannot("it has no `token`"),
        Command::Profile => return Cannot("it has no `profile`"),
        Command::Search => return Cannot("it has no `search`"),
        Command::Ping => return Cannot("it has no `ping`"),
        Command::Install
        | Command::InstallScoped
        | Command::InstallBelowPrefix
        | Command::InstallBehindTls
        | Command::Ci => panic!("done above"),
    }
    Works
}
