//! Postgres, as `scripts/services/postgres` starts it.

use std::process::Command;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services/postgres");

/// A URL whose tables are nobody else's.
pub(crate) async fn schema() -> String {
    let url = std::env::var("RUSTACCIO_POSTGRES_IT_URL")
        .expect("RUSTACCIO_POSTGRES_IT_URL is not set: run this through ./scripts/test");
    let schema = format!("it_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    connection.execute(create).await.unwrap();
    connection.close().await.unwrap();
    format!("{url}?options[search_path]={schema}")
}

/// The variables of a registry in the database at `url`.
pub(crate) fn variables(url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("RUSTACCIO_METADATA_BACKEND", "transactional".to_owned()),
        ("RUSTACCIO_METADATA_POSTGRES_URL", url.to_owned()),
        ("RUSTACCIO_METADATA_POSTGRES_TIMEOUT_SECS", "3".to_owned()),
    ]
}

/// A server of a test's own, which can be stopped.
pub(crate) struct Server {
    pub(crate) url: String,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let said = Self::run("start", &folder);
        let url = said
            .lines()
            .find_map(|line| line.strip_prefix("RUSTACCIO_POSTGRES_IT_URL="))
            .unwrap();
        Self {
            url: url.to_owned(),
            folder,
        }
    }

    /// The folder of its data and settings.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Ends it as a crash would.
    pub(crate) fn pause(&self) {
        Self::run("pause", &self.folder);
    }

    pub(crate) fn resume(&self) {
        Self::run("resume", &self.folder);
    }

    /// Lets it answer nothing, or everything again: `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let parent = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
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

    fn run(command: &str, folder: &TempDir) -> String {
        let done = Command::new(SCRIPT)
            .arg(command)
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT)
            .arg("stop")
            .arg(self.folder.path())
            .output();
    }
}
