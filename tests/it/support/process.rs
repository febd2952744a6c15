//! A registry in a process of its own, which can be killed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

/// A running process; killed when dropped.
pub(crate) struct Process {
    pub(crate) url: String,
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(data: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = Self::command(data, variables)
            // Not the terminal of who runs the tests.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout
            .lines()
            .map_while(Result::ok)
            .find(|line| line.contains("listening on"));
        let mut stderr = child.stderr.take().unwrap();
        let Some(line) = line else {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            panic!("it did not start: {text}");
        };
        let url = line.split_whitespace().last().unwrap().to_owned();
        // A full pipe would stop it.
        let log: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.0.lock().unwrap().push_str(&(line + "\n"));
                written.1.notify_all();
            }
        });
        Self {
            url,
            child,
            log,
            reader: Some(reader),
        }
    }

    /// Waits until its log has `text` for the `count`th time.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str, count: usize) {
        let (log, written) = &*self.log;
        let log = log.lock().unwrap();
        let is_missing = |log: &mut String| log.matches(text).count() < count;
        let (log, waited) = written
            .wait_timeout_while(log, Duration::from_secs(30), is_missing)
            .unwrap();
        assert!(!waited.timed_out(), "no `{text}` in {log}");
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id)
            .status();
        assert!(sent.unwrap().success());
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

    /// What `command` says, which is to fail; one that serves is ended, and fails too.
    pub(crate) fn refusal(command: Command) -> String {
        let mut command = assert_cmd::Command::from_std(command);
        let done = command.timeout(Duration::from_secs(60)).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code().is_some_and(|code| code != 0), "{said}");
        said
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    #[cfg(feature = "crash-points")]
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// SIGTERM, and all that it has logged. It has to finish what it does, and not to give up.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let log = self.log.0.lock().unwrap().clone();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains("stopped before everything"), "{log}");
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
