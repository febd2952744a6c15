//! A registry in a process of its own, which can be killed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running process; killed when dropped.
pub(crate) struct Process {
    pub(crate) url: String,
    child: Child,
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(data: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_with(data, variables, Stdio::piped())
    }

    /// Like [`Self::start`], with its log in the file `log`.
    pub(crate) fn start_with_log(data: &Path, variables: &[(&str, &str)], log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self::start_with(data, variables, log.into())
    }

    fn start_with(data: &Path, variables: &[(&str, &str)], log: Stdio) -> Self {
        let mut child = Self::command(data, variables)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout
            .lines()
            .map_while(Result::ok)
            .find(|line| line.contains("listening on"));
        let log = child.stderr.take();
        let Some(line) = line else {
            let mut text = String::new();
            if let Some(mut log) = log {
                log.read_to_string(&mut text).unwrap();
            }
            panic!("it did not start: {text}");
        };
        let url = line.split_whitespace().last().unwrap().to_owned();
        // Nobody reads its log; a full pipe would stop it.
        if let Some(mut log) = log {
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        }
        Self { url, child }
    }

    /// The program with no environment but this.
    pub(crate) fn command(data: &Path, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustaccio"));
        command
            .env_clear()
            .env("RUSTACCIO_DATA_DIR", data)
            .env("RUSTACCIO_BIND", "127.0.0.1:0")
            .env("RUSTACCIO_UPSTREAM", "none")
            .envs(variables.iter().copied());
        command
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// SIGTERM, and what it ends with.
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        Command::new("kill").arg(&id).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
