//! pnpm, from version 7 on. Up to version 10 it leaves what is not installing to the npm that it
//! finds; from 11 on it does all of it itself.

use super::{
    Cannot, Command, Outcome, Works,
    installing::{self, Address, Installer, alice},
    npm,
    scene::{PASSWORD, Scene},
};
use crate::support::client::{Client, Turn, in_one_line};

pub(super) struct Pnpm;

impl Installer for Pnpm {
    fn point(&self, client: &mut Client, at: Address<'_>) {
        client.configure(".npmrc", &at.npmrc());
        client.configure(".npmrc", "update-notifier=false\nfetch-retries=0\n");
        if client.major() < 11 {
            client.also_find("npm-10");
        }
    }

    fn trust_what_is_new(&self, client: &mut Client) {
        client.set("pnpm_config_minimum_release_age", "0");
    }

    fn install(&self) -> Vec<&'static str> {
        vec!["install"]
    }

    fn ci(&self) -> Vec<&'static str> {
        vec!["install", "--frozen-lockfile"]
    }

    fn lockfile(&self) -> &'static str {
        "pnpm-lock.yaml"
    }

    fn caches(&self) -> &'static [&'static str] {
        &[".cache", ".local"]
    }
}

pub(super) fn run(command: Command, scene: &Scene) -> Outcome {
    if let Some(outcome) = installing::run(command, scene, &Pnpm) {
        return outcome;
    }
    let major = scene.client().major();
    match command {
        Command::LoginByPassword => login_by_password(scene),
        Command::LoginInBrowser => login_in_browser(scene),
        Command::Token | Command::Profile if major == 11 => {
            return Cannot("\"not yet implemented in pnpm. Use the npm CLI directly\"");
        }
        _ => npm::run_as_alice(command, scene, &alice(scene, &Pnpm)),
    }
    Works
}

fn login_by_password(scene: &Scene) {
    let url = &scene.world.below_prefix.url;
    let turns = |password| {
        vec![
            Turn::new("sername", "carol"),
            Turn::new("assword", password),
            Turn::new("mail", "carol@example.com"),
        ]
    };
    let mut pnpm = scene.client();
    Pnpm.point(&mut pnpm, Address::of(url));
    let login = match pnpm.major() {
        ..11 => "login --auth-type=legacy",
        // It has no such option, and asks in the terminal where there is no page.
        _ => "login",
    };
    pnpm.converse(login, turns(PASSWORD));
    assert_eq!(pnpm.ok(&["whoami"]).trim(), "carol");
    let mut again = scene.client();
    Pnpm.point(&mut again, Address::of(url));
    let (text, is_ok) = again.talk(login, turns("a wrong guess"));
    assert!(
        !is_ok && in_one_line(&text).contains("bad username/password, access denied"),
        "{text}"
    );
    again.converse(login, turns(PASSWORD));
    assert_eq!(again.ok(&["whoami"]).trim(), "carol");
}

fn login_in_browser(scene: &Scene) {
    let mut pnpm = scene.client();
    Pnpm.point(&mut pnpm, Address::of(&scene.world.plain.url));
    pnpm.configure(".npmrc", "browser=false\n");
    let turns = vec![Turn::then("/-/v1/login_cli/", |text| {
        scene.sign_in_at_page(text);
    })];
    pnpm.converse("login", turns);
    assert_eq!(pnpm.ok(&["whoami"]).trim(), "alice");
}
