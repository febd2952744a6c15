//! Deno, which installs from npm registries and publishes elsewhere.

use super::{
    Cannot, Command, Outcome, Works,
    installing::{self, Address, Installer, alice},
    scene::{Scene, project},
};
use crate::support::client::Client;

pub(super) struct Deno;

impl Installer for Deno {
    fn point(&self, client: &mut Client, at: Address<'_>) {
        client.configure(".npmrc", &at.npmrc());
        client.set("DENO_NO_UPDATE_CHECK", "1");
        if let Some(file) = at.authority {
            client.set("DENO_CERT", file.to_str().unwrap());
        }
    }

    fn install(&self) -> Vec<&'static str> {
        vec!["install", "--node-modules-dir=auto"]
    }

    fn ci(&self) -> Vec<&'static str> {
        vec!["install", "--node-modules-dir=auto", "--frozen"]
    }

    fn lockfile(&self) -> &'static str {
        "deno.lock"
    }

    fn caches(&self) -> &'static [&'static str] {
        &[".cache"]
    }
}

pub(super) fn run(command: Command, scene: &Scene) -> Outcome {
    if let Some(outcome) = installing::run(command, scene, &Deno) {
        return outcome;
    }
    match command {
        Command::Audit => {
            let deno = alice(scene, &Deno);
            let folder = deno.project("project", &project("project", &["leaky", "left"]));
            deno.ok_in(&folder, &["install", "--node-modules-dir=auto"]);
            let report = deno.fails_in(&folder, &["audit"]);
            assert!(report.contains("it leaks"), "{report}");
            Works
        }
        Command::Publish | Command::Republish => Cannot("`deno publish` is for another registry"),
        Command::LoginByPassword | Command::LoginInBrowser | Command::Logout => {
            Cannot("it has no `login`; it reads the token that npm wrote")
        }
        _ => Cannot("it has no such command for npm registries"),
    }
}
