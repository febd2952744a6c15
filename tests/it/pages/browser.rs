//! [`walk`]: a browser that walks through pages as a script in `tests/browser` says.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Map, Value};

/// What somebody saw on a walk.
pub(super) struct Report {
    /// What was said, by view.
    pub(super) said: Map<String, Value>,
}

impl Report {
    /// Everybody was told `value` of `key`.
    #[track_caller]
    pub(super) fn assert(&self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        assert!(!self.said.is_empty());
        for (view, said) in &self.said {
            assert_eq!(said[key], value, "{view}: {key}");
        }
    }

    /// What everybody was told of `key` has this in it.
    #[track_caller]
    pub(super) fn assert_contains(&self, key: &str, part: &str) {
        assert!(!self.said.is_empty());
        for (view, said) in &self.said {
            assert!(
                said[key].to_string().contains(part),
                "{view}: {key}: {said}"
            );
        }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} says where a browser is; run this through ./scripts/test")
    })
}

/// Takes the walk `name` with `task`. Nothing may be wrong with any page on it.
pub(super) async fn walk(name: &'static str, task: Value) -> Report {
    let work = tokio::task::spawn_blocking(move || run(name, &task));
    work.await.unwrap()
}

/// Like [`walk`], for those who block anyway.
pub(super) fn run(name: &str, task: &Value) -> Report {
    let program = variable("RUSTACCIO_BROWSER_IT_PROGRAM");
    let modules = variable("RUSTACCIO_BROWSER_IT_MODULES");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/browser/{name}.mjs"));
    let mut child = Command::new(Path::new(&modules).join(".bin/node"))
        .arg(script)
        .env("RUSTACCIO_BROWSER_IT_PROGRAM", program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(task.to_string().as_bytes()).unwrap();
    drop(stdin);
    // It ends by itself in time.
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].take();
    let problems: Vec<&str> = problems
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    assert!(problems.is_empty(), "{name}:\n{}", problems.join("\n"));
    Report {
        said: report["said"].as_object().unwrap().clone(),
    }
}
