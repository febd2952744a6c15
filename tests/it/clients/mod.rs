//! Every client against the registry, every command of it; what comes out is the table in
//! `docs/clients.md`.

mod bun;
mod deno;
mod exchange;
pub(crate) mod installing;
mod npm;
mod platforms;
mod pnpm;
mod scene;
mod table;
mod trouble;
mod yarn;

use std::sync::Arc;

use installing::Installer;
use scene::{Scene, World};

/// What somebody does with a registry. Each is a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Install,
    InstallScoped,
    InstallBelowPrefix,
    InstallBehindTls,
    Ci,
    Publish,
    Republish,
    DistTag,
    Deprecate,
    Unpublish,
    Owner,
    LoginByPassword,
    LoginInBrowser,
    Logout,
    Token,
    Profile,
    Audit,
    Search,
    View,
    Ping,
    Whoami,
}

impl Command {
    const ALL: [(Self, &'static str); 21] = [
        (Self::Install, "install"),
        (Self::InstallScoped, "install scoped"),
        (Self::InstallBelowPrefix, "install below a prefix"),
        (Self::InstallBehindTls, "install behind TLS"),
        (Self::Ci, "ci"),
        (Self::Publish, "publish"),
        (Self::Republish, "republish"),
        (Self::DistTag, "dist-tag"),
        (Self::Deprecate, "deprecate"),
        (Self::Unpublish, "unpublish"),
        (Self::Owner, "owner"),
        (Self::LoginByPassword, "login, password"),
        (Self::LoginInBrowser, "login, browser"),
        (Self::Logout, "logout"),
        (Self::Token, "token"),
        (Self::Profile, "profile"),
        (Self::Audit, "audit"),
        (Self::Search, "search"),
        (Self::View, "view"),
        (Self::Ping, "ping"),
        (Self::Whoami, "whoami"),
    ];
}

/// How a command went. One that did not do what it should panics.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Works,
    /// The client itself has no such command, or cannot use it with any registry but the public
    /// one.
    Cannot(&'static str),
}

use Outcome::{Cannot, Works};

/// How the client of this name installs.
fn installer(name: &str) -> &'static dyn Installer {
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

/// Runs all commands of a client, and checks or writes its row of the table.
async fn row(name: &'static str) {
    let world = Arc::new(World::start().await);
    let mut cells = Vec::new();
    let mut failures = Vec::new();
    for (command, column) in Command::ALL {
        let scene = Scene::new(name, Arc::clone(&world));
        let run = tokio::task::spawn_blocking(move || {
            let family = scene.name.split('-').next().unwrap();
            match family {
                "npm" => npm::run(command, &scene),
                "pnpm" => pnpm::run(command, &scene),
                "yarn" => yarn::run(command, &scene),
                "bun" => bun::run(command, &scene),
                "deno" => deno::run(command, &scene),
                _ => panic!("nobody knows {name}"),
            }
        });
        match run.await {
            Ok(outcome) => cells.push((column, outcome)),
            // The panic has said why.
            Err(_) => failures.push(column),
        }
    }
    assert!(failures.is_empty(), "{name} fails at {failures:?}");
    table::check(name, &cells);
}

macro_rules! rows {
    ($($test:ident $name:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::row($name).await;
            }
        )*
    };
}

/// The newest of each; these run always.
mod newest {
    rows! {
        npm_12 "npm-12",
        pnpm_12 "pnpm-12",
        yarn_1 "yarn-1",
        yarn_4 "yarn-4",
        bun_1 "bun-1",
        deno_2 "deno-2",
    }
}

/// The others, which `./scripts/test --clients` runs.
mod older {
    rows! {
        npm_6 "npm-6",
        npm_7 "npm-7",
        npm_8 "npm-8",
        npm_9 "npm-9",
        npm_10 "npm-10",
        npm_11 "npm-11",
        pnpm_7 "pnpm-7",
        pnpm_8 "pnpm-8",
        pnpm_9 "pnpm-9",
        pnpm_10 "pnpm-10",
        pnpm_11 "pnpm-11",
    }
}
