//! `rustaccio healthcheck`: yes where a registry is ready, no where none is; and hangups, which
//! service managers send.

use std::path::Path;

use assert_cmd::Command;

use crate::support::{process::Process, tls::Authority};

/// How `rustaccio healthcheck` ends with these settings, and what it says.
fn healthcheck(data: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Process::command(data, variables);
    // A proxy is not asked about the own machine.
    command
        .arg("healthcheck")
        .env("HTTP_PROXY", "http://127.0.0.1:9/");
    let done = Command::from_std(command).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

fn port(process: &Process) -> &str {
    let (_, behind) = process.url.split_once("://127.0.0.1:").unwrap();
    behind.split('/').next().unwrap()
}

#[test]
fn it_says_yes_at_each_kind_of_address() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, data) = (Authority::new(), folder.path().join("data"));
    let tls = authority.settings();
    let [certificate, key] =
        [tls.certificate, tls.key].map(|file| file.unwrap().display().to_string());
    let secure = [
        ("RUSTACCIO_TLS_CERT", certificate.as_str()),
        ("RUSTACCIO_TLS_KEY", key.as_str()),
    ];
    let prefixed = [("RUSTACCIO_URL_PREFIX", "/npm")];
    for variables in [&[][..], &secure, &prefixed] {
        let process = Process::start(&data, variables);
        let address = format!("0.0.0.0:{}", port(&process));
        let mut asked = variables.to_vec();
        asked.push(("RUSTACCIO_BIND", &address));
        assert_eq!(healthcheck(&data, &asked), (0, "ready\n".to_owned()));
        process.stop();
    }
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let bind = [("RUSTACCIO_BIND", socket.as_str())];
    let process = Process::start(&data, &bind);
    assert_eq!(healthcheck(&data, &bind), (0, "ready\n".to_owned()));
    process.stop();
}

#[test]
fn it_says_no_where_nobody_is_where_storage_fails_and_where_it_cannot_ask() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let process = Process::start(&data, &[]);
    let address = format!("127.0.0.1:{}", port(&process));
    let bind = [("RUSTACCIO_BIND", address.as_str())];
    assert_eq!(healthcheck(&data, &bind).0, 0);
    std::fs::remove_dir_all(&data).unwrap();
    let (code, said) = healthcheck(&data, &bind);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("answered 503"), "{said}");
    process.kill();
    let (code, said) = healthcheck(&data, &bind);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    let (code, said) = healthcheck(&data, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("name one in RUSTACCIO_BIND"), "{said}");
    let (code, said) = healthcheck(&data, &[("RUSTACCIO_BIND", "nonsense:x")]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("RUSTACCIO_BIND"), "{said}");
}

#[test]
fn a_hangup_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    process.signal("HUP");
    process.wait_for_log("there is no certificate to read again", 1);
    process.stop();
}
