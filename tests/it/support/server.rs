//! A service of a test's own, which can be stopped; as a script of `scripts/services` starts it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");

pub(crate) struct Server {
    pub(crate) url: String,
    script: PathBuf,
    folder: TempDir,
}

impl Server {
    /// The service `name`, whose script says its address as this `variable`.
    pub(crate) fn start(name: &str, variable: &str) -> Self {
        let (script, folder) = (Path::new(SCRIPTS).join(name), tempfile::tempdir().unwrap());
        let mut server = Self {
            url: String::new(),
            script,
            folder,
        };
        let said = server.run("start");
        let mut pairs = said.lines().filter_map(|line| line.split_once('='));
        let (_, url) = pairs.find(|(name, _)| *name == variable).unwrap();
        url.clone_into(&mut server.url);
        server
    }

    /// The folder of its data and settings.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends it, as a crash would where that makes a difference.
    pub(crate) fn pause(&self) {
        self.run("pause");
    }

    /// Starts it again.
    pub(crate) fn resume(&self) {
        self.run("resume");
    }

    /// Lets it answer nothing, or everything again: `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let parent = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let parent = parent.trim();
        let children = Command::new("ps")
            .args(["-o", "pid=", "--ppid", parent])
            .output();
        let children = String::from_utf8(children.unwrap().stdout).unwrap();
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(parent)
            .args(children.split_whitespace())
            .status();
        assert!(sent.unwrap().success());
    }

    /// What the script says.
    fn run(&self, command: &str) -> String {
        // What it starts would hold a pipe open.
        let said = self.folder.path().join("said");
        let done = Command::new(&self.script)
            .arg(command)
            .arg(self.folder.path())
            .stdout(File::create(&said).unwrap())
            .status();
        assert!(done.unwrap().success(), "{command}");
        fs::read_to_string(said).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(&self.script)
            .arg("stop")
            .arg(self.folder.path())
            .output();
    }
}
