//! What clients do with packages beyond installing them: bring them up to date, run what is in them,
//! and look into them; of upstream's and of ours.

use super::*;
use crate::support::{Answer, User};

/// A registry of which upstream and alice may change every answer at any time.
struct World {
    upstream: Upstream,
    registry: Registry,
    alice: User,
}

impl World {
    async fn new() -> Self {
        let upstream = Upstream::start().await;
        let file = format!("{}    maxage: 0s\n", proxying(&upstream));
        let registry = Registry::with(Start {
            file: &file,
            clock: Some(days_ago()),
            ..Start::default()
        })
        .await;
        Self {
            alice: registry.user("alice").await,
            upstream,
            registry,
        }
    }

    async fn publish(&self, package: &Package) -> Answer {
        self.registry.publish(&self.alice, package).await
    }

    /// Upstream's `lib` and our `@acme/lib` in these versions; ours that are there already, stay.
    async fn has_libraries(&self, versions: &[&str]) {
        let of = |name: &str| -> Vec<Package> {
            let versions = versions.iter();
            let code = |version: &str| format!("module.exports = '{version}'\n").into_bytes();
            versions
                .map(|version| {
                    let files: [(&str, &[u8]); 1] = [("index.js", &code(version))];
                    Package::with(name, version, &json!({ "license": "MIT" }), &files)
                })
                .collect()
        };
        let theirs = of("lib");
        self.upstream.has(&theirs.iter().collect::<Vec<_>>());
        for package in of("@acme/lib") {
            let status = self.publish(&package).await.status.as_u16();
            assert!(matches!(status, 201 | 409), "{status}");
        }
    }
}

const BOTH: [&str; 2] = ["lib", "@acme/lib"];

/// What it prints, whatever it ends with: most say by that whether something is out of date.
fn says(client: &Client, folder: &Path, arguments: &[&str]) -> String {
    let output = client.run_in(folder, arguments);
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A project was installed; then new versions came out.
async fn comes_up_to_date(
    name: &'static str,
    outdated: Option<&'static [&'static str]>,
    update: &'static [&'static str],
    dedupe: Option<&'static [&'static str]>,
) {
    let world = World::new().await;
    world.has_libraries(&["1.0.0"]).await;
    let url = world.registry.url.clone();
    let installed = beside(move || {
        let client = client_at(name, &url);
        let folder = install(&client, &BOTH);
        (client, folder)
    });
    let (client, folder) = installed.await;
    world.has_libraries(&["1.0.0", "1.1.0", "2.0.0"]).await;
    beside(move || {
        for cache in installer(name).caches() {
            let _ = fs::remove_dir_all(client.home().join(cache));
        }
        if let Some(outdated) = outdated {
            let said = says(&client, &folder, outdated);
            for wanted in ["lib", "@acme/lib", "1.0.0", "2.0.0"] {
                assert!(said.contains(wanted), "{name} {outdated:?}: {said}");
            }
        }
        client.ok_in(&folder, update);
        if let Some(dedupe) = dedupe {
            client.ok_in(&folder, dedupe);
        }
        for library in BOTH {
            assert_eq!(version_of(&folder, library), "1.1.0", "{name} {library}");
        }
        let lock = fs::read_to_string(folder.join(installer(name).lockfile())).unwrap();
        assert!(lock.contains("1.1.0") && !lock.contains("2.0.0"), "{lock}");
    })
    .await;
}

mod comes_up_to_date {
    use super::comes_up_to_date;

    macro_rules! each {
        ($($test:ident $name:literal $outdated:expr, $update:expr, $dedupe:expr;)*) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    comes_up_to_date($name, $outdated, $update, $dedupe).await;
                }
            )*
        };
    }

    each! {
        npm_6 "npm-6" Some(&["outdated"]), &["update"], Some(&["dedupe"]);
        npm_12 "npm-12" Some(&["outdated"]), &["update"], Some(&["dedupe"]);
        pnpm_12 "pnpm-12" Some(&["outdated"]), &["update"], Some(&["dedupe"]);
        yarn_1 "yarn-1" Some(&["outdated"]), &["upgrade", "--non-interactive"], None;
        yarn_4 "yarn-4" None, &["up", "--recursive", "lib", "@acme/lib"], Some(&["dedupe"]);
        bun_1 "bun-1" Some(&["outdated"]), &["update"], Some(&["dedupe"]);
        deno_2 "deno-2" Some(&["outdated"]), &["update"], None;
    }
}

/// A package with a program that says its name and what it is given.
fn tool(name: &str) -> Package {
    let program = name.rsplit('/').next().unwrap();
    let fields = json!({ "bin": { program: "cli.js" }, "license": "MIT" });
    let code = format!("#!/usr/bin/env node\nconsole.log('{name} says', process.argv[2])\n");
    Package::with(name, "1.0.0", &fields, &[("cli.js", code.as_bytes())])
}

/// Runs programs of packages that are not installed.
async fn runs(name: &'static str, commands: &'static [(&'static str, &'static [&'static str])]) {
    let world = World::new().await;
    for theirs in ["shout", "create-thing"] {
        world.upstream.has(&[&tool(theirs)]);
    }
    for ours in ["@acme/shout", "@acme/create-other"] {
        world.publish(&tool(ours)).await.assert(201);
    }
    let url = world.registry.url.clone();
    beside(move || {
        let client = client_at(name, &url);
        for (number, (wanted, command)) in commands.iter().enumerate() {
            let folder = client.project(&number.to_string(), &needing(&[]));
            let program = client.find(command[0]);
            let mut running = client.command(&program, &folder);
            let output = running.args(&command[1..]).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let wanted = format!("{wanted} says hello");
            assert!(text.contains(&wanted), "{name} {command:?}: {text}");
        }
    })
    .await;
}

mod runs {
    use super::runs;

    macro_rules! each {
        ($($test:ident $name:literal [$($wanted:literal $command:expr),* $(,)?];)*) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    runs($name, &[$(($wanted, &$command)),*]).await;
                }
            )*
        };
    }

    each! {
        npm_6 "npm-6" [
            "shout" ["npx", "shout", "hello"],
            "@acme/shout" ["npx", "@acme/shout", "hello"],
            "create-thing" ["npm", "init", "thing", "hello"],
        ];
        npm_12 "npm-12" [
            "shout" ["npm", "exec", "--yes", "--", "shout", "hello"],
            "@acme/shout" ["npx", "--yes", "@acme/shout", "hello"],
            "create-thing" ["npm", "create", "--yes", "thing", "hello"],
            "@acme/create-other" ["npm", "init", "--yes", "@acme/other", "hello"],
        ];
        pnpm_12 "pnpm-12" [
            "shout" ["pnpm", "dlx", "shout", "hello"],
            "@acme/shout" ["pnpm", "dlx", "@acme/shout", "hello"],
            "create-thing" ["pnpm", "create", "thing", "hello"],
            "@acme/create-other" ["pnpm", "create", "@acme/other", "hello"],
        ];
        yarn_1 "yarn-1" [
            "create-thing" ["yarn", "create", "thing", "hello"],
            "@acme/create-other" ["yarn", "create", "@acme/other", "hello"],
        ];
        yarn_4 "yarn-4" [
            "shout" ["yarn", "dlx", "shout", "hello"],
            "@acme/shout" ["yarn", "dlx", "@acme/shout", "hello"],
        ];
        bun_1 "bun-1" [
            "shout" ["bunx", "shout", "hello"],
            "@acme/shout" ["bunx", "@acme/shout", "hello"],
            "create-thing" ["bun", "create", "thing", "hello"],
            "@acme/create-other" ["bun", "create", "@acme/other", "hello"],
        ];
        deno_2 "deno-2" [
            "shout" ["deno", "run", "-A", "npm:shout", "hello"],
            "@acme/shout" ["deno", "x", "--yes", "-A", "npm:@acme/shout", "hello"],
            "create-thing" ["deno", "create", "--yes", "npm:thing", "--", "hello"],
        ];
    }
}

/// A world in which there are two versions to look into.
async fn looks_in(work: impl FnOnce(&str) + Send + 'static) {
    let world = World::new().await;
    world.has_libraries(&["1.0.0", "1.1.0"]).await;
    world.upstream.has(&[&Package::new("npm", "99.0.0")]);
    let url = world.registry.url.clone();
    beside(move || work(&url)).await;
}

/// `pack`, `cache add` and `doctor`.
fn npm_looks(npm: &mut Client) {
    for (library, file) in [
        ("lib", "lib-1.0.0.tgz"),
        ("@acme/lib", "acme-lib-1.0.0.tgz"),
    ] {
        let version = format!("{library}@1.0.0");
        npm.ok(&["pack", &version]);
        assert!(npm.home().join(file).is_file(), "{file}");
        fs::remove_dir_all(npm.home().join(".npm")).unwrap();
        npm.ok(&["cache", "add", &version]);
        npm.ok(&["pack", "--offline", &version]);
    }
    npm.configure("no-elsewhere.cjs", NO_ELSEWHERE);
    let shim = npm.home().join("no-elsewhere.cjs");
    npm.set("NODE_OPTIONS", &format!("--require={}", shim.display()));
    npm.configure(
        ".npmrc",
        "https-proxy=http://127.0.0.1:9\nnoproxy=127.0.0.1\n",
    );
    let report = says(npm, npm.home(), &["doctor"]);
    // What upstream says is the newest.
    assert!(report.contains("99.0.0"), "{report}");
    let mut lines = report.lines().map(str::to_lowercase);
    let is_ping = |line: &String| line.contains("npm ping") || line.contains("connecting");
    let line = lines.find(is_ping).unwrap_or_else(|| panic!("{report}"));
    let next = lines.next().unwrap();
    assert!(line.contains("ok") || next == "ok", "{report}");
}

/// `doctor` asks elsewhere too, for versions of Node.js, which tests cannot reach. From version 7 on
/// npm goes on without; for npm 6 this says that there is one.
const NO_ELSEWHERE: &str = "
    const Module = require('node:module')
    const load = Module._load
    Module._load = function (request, ...rest) {
      if (!request.endsWith('/get-latest-nodejs-version')) return load.call(this, request, ...rest)
      return (url, done) => done(null, 'v1.0.0')
    }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_6_packs_and_examines() {
    looks_in(|url| npm_looks(&mut client_at("npm-6", url))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_12_packs_examines_and_compares() {
    looks_in(|url| {
        let mut npm = client_at("npm-12", url);
        for library in BOTH {
            let [one, two] =
                ["1.0.0", "1.1.0"].map(|version| format!("--diff={library}@{version}"));
            let text = npm.ok(&["diff", &one, &two]);
            assert!(text.contains("+module.exports = '1.1.0'"), "{text}");
        }
        npm_looks(&mut npm);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bun_1_compares() {
    looks_in(|url| {
        let bun = client_at("bun-1", url);
        let folder = bun.project("project", &needing(&[]));
        for library in BOTH {
            let text = bun.ok_in(
                &folder,
                &["pm", "diff", &format!("{library}@1.0.0"), "1.1.0"],
            );
            assert!(text.contains("+module.exports = '1.1.0'"), "{text}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pnpm_12_fetches_and_stores() {
    looks_in(|url| {
        let pnpm = client_at("pnpm-12", url);
        let folder = install(&pnpm, &BOTH);
        check_out_anew(&pnpm, &folder);
        pnpm.ok_in(&folder, &["fetch"]);
        pnpm.ok_in(&folder, &["install", "--offline", "--frozen-lockfile"]);
        for library in BOTH {
            assert_eq!(version_of(&folder, library), "1.1.0");
            pnpm.ok_in(&folder, &["store", "add", &format!("{library}@1.0.0")]);
        }
    })
    .await;
}
