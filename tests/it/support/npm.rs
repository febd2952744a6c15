//! npm, in a home of its own.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// npm as somebody runs it who knows nothing of this machine.
pub(crate) struct Npm {
    home: TempDir,
    registry: String,
}

impl Npm {
    pub(crate) fn new(registry: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let npm = Self {
            home,
            registry: registry.to_owned(),
        };
        npm.configure(&format!(
            "registry={registry}/\nupdate-notifier=false\nfund=false\naudit=false\nfetch-retries=0\n"
        ));
        npm
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds lines to the user's settings.
    pub(crate) fn configure(&self, lines: &str) {
        let path = self.home().join(".npmrc");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, before + lines).unwrap();
    }

    pub(crate) fn sign_in_with(&self, token: &str) {
        let host = self.registry.trim_start_matches("http:");
        self.configure(&format!("{host}/:_authToken={token}\n"));
    }

    /// A new folder with this package.json.
    pub(crate) fn project(&self, name: &str, manifest: &Value) -> PathBuf {
        let folder = self.home().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("package.json"), manifest.to_string()).unwrap();
        folder
    }

    pub(crate) fn forget_cache(&self) {
        let _ = std::fs::remove_dir_all(self.home().join(".npm"));
    }

    fn command(&self, program: &str, folder: &Path) -> Command {
        let path = std::env::var_os("PATH").unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home())
            .env("npm_config_globalconfig", self.home().join("none"))
            .current_dir(folder);
        command
    }

    pub(crate) fn run_in(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.command("npm", folder)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What it prints; it must succeed.
    #[track_caller]
    pub(crate) fn ok_in(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run_in(folder, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "npm {arguments:?}: {text}{errors}");
        text
    }

    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_in(self.home(), arguments)
    }

    /// What it complains of; it must fail.
    #[track_caller]
    pub(crate) fn fails_in(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run_in(folder, arguments);
        assert!(!output.status.success(), "npm {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs it on a terminal and answers its questions, each when it is asked.
    pub(crate) fn answer(&self, arguments: &str, answers: &[(&str, &str)]) -> String {
        let mut child = self
            .command("script", self.home())
            .env("TERM", "dumb")
            .args(["-qec", &format!("npm {arguments}"), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut text, mut answers) = (String::new(), answers.iter());
        let mut from = 0;
        let mut next = answers.next();
        let mut buffer = [0; 1024];
        loop {
            let count = stdout.read(&mut buffer).unwrap_or_default();
            if count == 0 {
                break;
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            while let Some((question, answer)) = next
                && let Some(at) = text[from..].find(question)
            {
                from += at + question.len();
                writeln!(stdin, "{answer}").unwrap();
                next = answers.next();
            }
        }
        drop(stdin);
        assert!(child.wait().unwrap().success(), "npm {arguments}: {text}");
        text
    }
}
