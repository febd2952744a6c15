//! A package manager, in a home of its own.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Registry, User};

const VERSIONS: &str = include_str!("../clients/versions.txt");

/// A package manager as somebody runs it who knows nothing of this machine: with a home of its
/// own, an empty cache, and no settings but those that a test makes.
pub(crate) struct Client {
    /// The client and its newest version that we know: `npm-12`.
    pub(crate) name: String,
    program: String,
    home: TempDir,
    path: OsString,
    variables: Vec<(String, String)>,
}

/// Runs `work`, which blocks, with a client of this name that uses `registry` as `user`.
pub(crate) async fn as_user<T: Send + 'static>(
    name: &'static str,
    registry: &Registry,
    user: &User,
    work: impl FnOnce(Client) -> T + Send + 'static,
) -> T {
    let (url, token) = (registry.url.clone(), user.token.clone());
    let work = tokio::task::spawn_blocking(move || work(Client::at(name, &url, &token)));
    work.await.unwrap()
}

/// What is typed, given all that was printed so far.
type Reply<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// One exchange with a client on a terminal.
pub(crate) struct Turn<'a> {
    wait_for: &'a str,
    reply: Reply<'a>,
}

impl<'a> Turn<'a> {
    /// Types a line when it prints `wait_for`.
    pub(crate) fn new(wait_for: &'a str, line: &'a str) -> Self {
        Self {
            wait_for,
            reply: Box::new(move |_| Some(line.to_owned())),
        }
    }

    /// Types a line that is made of all that it printed so far.
    pub(crate) fn answer(wait_for: &'a str, line: impl Fn(&str) -> String + 'a) -> Self {
        Self {
            wait_for,
            reply: Box::new(move |text| Some(line(text))),
        }
    }

    /// Does something else when it prints `wait_for`, given all that it printed so far.
    pub(crate) fn then(wait_for: &'a str, act: impl Fn(&str) + 'a) -> Self {
        Self {
            wait_for,
            reply: Box::new(move |text| {
                act(text);
                None
            }),
        }
    }
}

/// The line of a client in `versions.txt`: its package with the version, and its Node.js.
pub(crate) fn version(name: &str) -> (&'static str, &'static str) {
    let mut lines = VERSIONS.lines().map(str::split_whitespace);
    let mut line = lines
        .find(|line| line.clone().next() == Some(name))
        .unwrap_or_else(|| panic!("versions.txt has no {name}"));
    line.next();
    (line.next().unwrap(), line.next().unwrap())
}

/// What a client prints, in one line: pnpm breaks long ones, and draws frames around them.
pub(crate) fn in_one_line(text: &str) -> String {
    let words = text.split(|character: char| character.is_whitespace() || "│|".contains(character));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn installed(folder: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    let bin = all.join(folder).join("node_modules/.bin");
    assert!(
        bin.is_dir(),
        "{folder} is not installed; run `./scripts/clients`"
    );
    bin
}

impl Client {
    /// The client of this name in `versions.txt`.
    pub(crate) fn new(name: &str) -> Self {
        let (_, runtime) = version(name);
        let mut path = vec![installed(name), installed(&runtime.replace('@', "-"))];
        let system = std::env::var_os("PATH").unwrap();
        path.extend(std::env::split_paths(&system));
        Self {
            name: name.to_owned(),
            program: name.split('-').next().unwrap().to_owned(),
            home: tempfile::tempdir().unwrap(),
            path: std::env::join_paths(path).unwrap(),
            variables: Vec::new(),
        }
    }

    /// The newest npm, pointed at `registry`.
    pub(crate) fn npm(registry: &str) -> Self {
        let npm = Self::new("npm-12");
        npm.configure(
            ".npmrc",
            &format!(
                "registry={registry}/\nupdate-notifier=false\nfund=false\naudit=false\nfetch-retries=0\n"
            ),
        );
        npm
    }

    /// The client of this name, pointed at `registry` as the holder of `token`.
    pub(crate) fn at(name: &str, registry: &str, token: &str) -> Self {
        let client = Self::new(name);
        client.configure(
            ".npmrc",
            &format!("registry={registry}/\nupdate-notifier=false\nfund=false\naudit=false\nfetch-retries=0\n"),
        );
        client.sign_in_with(registry, token);
        client
    }

    /// Its major version.
    pub(crate) fn major(&self) -> u32 {
        self.name.rsplit('-').next().unwrap().parse().unwrap()
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Lets it find the programs of another client.
    pub(crate) fn also_find(&mut self, other: &str) {
        let (_, runtime) = version(&self.name);
        let mut path = vec![installed(&self.name), installed(&runtime.replace('@', "-"))];
        path.push(installed(other));
        path.extend(std::env::split_paths(&self.path));
        self.path = std::env::join_paths(path).unwrap();
    }

    /// Sets a variable of its environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Adds lines to a file of settings in its home.
    pub(crate) fn configure(&self, file: &str, lines: &str) {
        let path = self.home().join(file);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, before + lines).unwrap();
    }

    /// Gives it a token for `registry`, where it reads `.npmrc`.
    pub(crate) fn sign_in_with(&self, registry: &str, token: &str) {
        let (_, host) = registry.split_once("//").unwrap();
        self.configure(".npmrc", &format!("//{host}/:_authToken={token}\n"));
    }

    /// A new folder with this package.json.
    pub(crate) fn project(&self, name: &str, manifest: &Value) -> PathBuf {
        let folder = self.home().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("package.json"), manifest.to_string()).unwrap();
        folder
    }

    /// Its command line in `folder`, with nothing of our own environment.
    pub(crate) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.home())
            .env("TMPDIR", self.home())
            .env("npm_config_globalconfig", self.home().join("none"))
            // For root, Yarn 1 has another home than this, unless it takes root for pretended.
            .env("FAKEROOTKEY", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run_in(&self, folder: &Path, arguments: &[&str]) -> Output {
        // `Command` would look the program up in our own PATH.
        let program = self.find(&self.program);
        self.command(&program, folder)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Where a program is that it would find.
    pub(crate) fn find(&self, program: &str) -> String {
        let mut folders = std::env::split_paths(&self.path);
        let found = folders.find_map(|folder| {
            let file = folder.join(program);
            file.is_file().then_some(file)
        });
        found.unwrap().to_str().unwrap().to_owned()
    }

    /// What it prints; it must succeed.
    #[track_caller]
    pub(crate) fn ok_in(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run_in(folder, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let name = &self.name;
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {text}{errors}"
        );
        text
    }

    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_in(self.home(), arguments)
    }

    /// All that it prints; it must fail.
    #[track_caller]
    pub(crate) fn fails_in(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run_in(folder, arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let name = &self.name;
        assert!(
            !output.status.success(),
            "{name} {arguments:?} succeeded: {text}{errors}"
        );
        format!("{text}{errors}")
    }

    /// Runs it on a terminal, and takes turns with it. What it printed; it must succeed.
    #[track_caller]
    pub(crate) fn converse(&self, arguments: &str, turns: Vec<Turn<'_>>) -> String {
        self.converse_in(self.home(), arguments, turns)
    }

    #[track_caller]
    pub(crate) fn converse_in(
        &self,
        folder: &Path,
        arguments: &str,
        turns: Vec<Turn<'_>>,
    ) -> String {
        let (text, is_ok) = self.talk_in(folder, arguments, turns);
        assert!(is_ok, "{} {arguments}: {text}", self.name);
        text
    }

    /// Waits until the client has taken the terminal over: what is typed before that, it throws
    /// away. One that reads whole lines never does.
    fn wait_until_it_reads(&self) {
        let terminal = fs::read_to_string(self.home().join(".tty")).unwrap();
        let patience = Instant::now() + Duration::from_secs(3);
        while Instant::now() < patience {
            let modes = Command::new("stty")
                .args(["-a", "-F", terminal.trim()])
                .output()
                .unwrap();
            let modes = String::from_utf8_lossy(&modes.stdout).into_owned();
            if modes.split_whitespace().any(|mode| mode == "-echo") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Like [`Self::converse`], and whether it succeeded.
    pub(crate) fn talk(&self, arguments: &str, turns: Vec<Turn<'_>>) -> (String, bool) {
        self.talk_in(self.home(), arguments, turns)
    }

    pub(crate) fn talk_in(
        &self,
        folder: &Path,
        arguments: &str,
        turns: Vec<Turn<'_>>,
    ) -> (String, bool) {
        let line = format!("{} {arguments}", self.find(&self.program));
        let mut child = self
            .command("script", folder)
            .env("TERM", "dumb")
            .env("COLUMNS", "500")
            .args([
                "-qec",
                &format!("tty > \"$HOME/.tty\"; stty cols 500; exec {line}"),
                "/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut text = String::new();
        let mut from = 0;
        let mut turns = turns.into_iter();
        let mut next = turns.next();
        let mut buffer = [0; 1024];
        loop {
            let count = stdout.read(&mut buffer).unwrap_or_default();
            if count == 0 {
                break;
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            while let Some(turn) = &next
                && let Some(at) = text[from..].find(turn.wait_for)
            {
                from += at + turn.wait_for.len();
                if let Some(line) = (turn.reply)(&text) {
                    self.wait_until_it_reads();
                    // The client may have ended without waiting for it.
                    let _ = write!(stdin, "{line}\r");
                }
                next = turns.next();
            }
        }
        drop(stdin);
        let is_ok = child.wait().unwrap().success();
        (text, is_ok)
    }
}
