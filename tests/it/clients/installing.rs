//! Installing, which all clients do alike: from a registry at its root, below a path, and behind a
//! proxy that ends TLS; and again from the lockfile alone.

use std::{fs, path::Path};

use super::{
    Command, Outcome, Works, bun, deno, npm, pnpm,
    scene::{Scene, assert_left_is_installed, project},
    yarn,
};
use crate::support::client::Client;

/// Where a registry is, and what it takes to use it.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    pub(crate) url: &'a str,
    pub(crate) token: Option<&'a str>,
    /// Whom to trust.
    pub(crate) authority: Option<&'a Path>,
}

impl<'a> Address<'a> {
    pub(crate) fn of(url: &'a str) -> Self {
        Self {
            url,
            token: None,
            authority: None,
        }
    }

    /// The lines of an `.npmrc`, which nearly all clients read.
    pub(crate) fn npmrc(&self) -> String {
        let mut lines = format!("registry={}/\n", self.url);
        if let Some(token) = self.token {
            lines.push_str(&format!("{}:_authToken={token}\n", self.nerf_dart()));
        }
        if let Some(file) = self.authority {
            lines.push_str(&format!("cafile={}\n", file.display()));
        }
        lines
    }

    /// `//host/path/`, by which `.npmrc` knows a registry.
    pub(crate) fn nerf_dart(&self) -> String {
        let (_, rest) = self.url.split_once(':').unwrap();
        format!("{rest}/")
    }
}

/// How one family of clients is set up and installs.
pub(crate) trait Installer: Sync {
    /// Points `client` at a registry.
    fn point(&self, client: &mut Client, at: Address<'_>);
    /// Lets `client` install what was published a moment ago, if it does not by default.
    fn trust_what_is_new(&self, _client: &mut Client) {}
    /// The arguments of an install.
    fn install(&self) -> Vec<&'static str>;
    /// The arguments of an install from the lockfile alone.
    fn ci(&self) -> Vec<&'static str>;
    /// The file that it locks versions in.
    fn lockfile(&self) -> &'static str;
    /// What a package manager keeps outside of a project between installs; relative to its home.
    fn caches(&self) -> &'static [&'static str];
}

/// How the client of this name is set up and installs.
pub(crate) fn installer(name: &str) -> &'static dyn Installer {
    match name.split_once('-').unwrap() {
        ("npm", _) => &npm::Npm,
        ("pnpm", _) => &pnpm::Pnpm,
        ("yarn", "1") => &yarn::Classic,
        ("yarn", _) => &yarn::Modern,
        ("bun", _) => &bun::Bun,
        ("deno", _) => &deno::Deno,
        _ => panic!("nobody knows {name}"),
    }
}

/// A client of `scene` that uses the plain registry as alice.
pub(super) fn alice(scene: &Scene, installer: &dyn Installer) -> Client {
    let world = &scene.world;
    let mut client = scene.client();
    let at = Address {
        token: Some(&world.alice.token),
        ..Address::of(&world.plain.url)
    };
    installer.point(&mut client, at);
    installer.trust_what_is_new(&mut client);
    client
}

/// The columns of installing; `None` for another command.
pub(super) fn run(command: Command, scene: &Scene, installer: &dyn Installer) -> Option<Outcome> {
    let world = &scene.world;
    let authority = world.authority.file();
    let at = match command {
        Command::Install | Command::InstallScoped | Command::Ci => Address::of(&world.plain.url),
        Command::InstallBelowPrefix => Address::of(&world.below_prefix.url),
        Command::InstallBehindTls => Address {
            authority: Some(&authority),
            ..Address::of(&world.tls.url)
        },
        _ => return None,
    };
    let mut client = scene.client();
    installer.point(&mut client, at);
    let needs: &[&str] = match command {
        Command::InstallScoped => &["@up/right", "left"],
        _ => &["left"],
    };
    let folder = client.project("project", &project("project", needs));
    client.ok_in(&folder, &installer.install());
    assert_left_is_installed(&client, &folder);
    if command == Command::Ci {
        let locked = fs::read(folder.join(installer.lockfile())).unwrap();
        fs::remove_dir_all(folder.join("node_modules")).unwrap();
        for cache in installer.caches() {
            let _ = fs::remove_dir_all(client.home().join(cache));
        }
        client.ok_in(&folder, &installer.ci());
        assert_left_is_installed(&client, &folder);
        let after = fs::read(folder.join(installer.lockfile())).unwrap();
        assert!(locked == after, "the lockfile has changed");
    }
    Some(Works)
}
