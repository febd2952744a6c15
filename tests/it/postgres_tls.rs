//! TLS to Postgres, with a certificate of the test's own.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use sqlx::{Connection as _, PgConnection};

use crate::support::{
    Package, Registry,
    postgres::{server, variables},
    process::Process,
    registry::Start,
    server::Server,
    tls::Authority,
};

/// Gives the server the certificate, and nobody else his key.
fn secure(server: &Server, authority: &Authority) {
    let data = server.data();
    let owner = fs::metadata(&data).unwrap();
    let files = authority.settings();
    for (from, to) in [(files.certificate, "server.crt"), (files.key, "server.key")] {
        let to = data.join(to);
        fs::copy(from.unwrap(), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let settings = data.join("postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(settings, text + "\nssl = on\n").unwrap();
    server.pause();
    server.resume();
}

/// All connections but this one are, seen from the server.
async fn are_safe(plain: &str) {
    let connection = PgConnection::connect(&format!("{plain}?sslmode=disable"));
    let (all, safe): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl \
         JOIN pg_stat_activity USING (pid) \
         WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    .fetch_one(&mut connection.await.unwrap())
    .await
    .unwrap();
    assert!(all > 0 && all == safe, "{safe} of {all}");
}

/// Why the program does not start.
async fn refusal(data: &Path, variables: Vec<(&'static str, String)>) -> String {
    let pairs: Vec<_> = variables.iter().map(|(n, v)| (*n, &**v)).collect();
    let command = Process::command(data, &pairs);
    let refused = tokio::task::spawn_blocking(|| Process::refusal(command));
    refused.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_as_safe_as_the_address_says() {
    let server = tokio::task::spawn_blocking(server).await.unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let plain = server.url.clone();
    let required = variables(&format!("{plain}?sslmode=require"));
    let said = refusal(folder.path(), required).await;
    assert!(said.contains("TLS") || said.contains("SSL"), "{said}");
    secure(&server, &authority);

    let of = |mode: &str, authority: &Authority| {
        let root = authority.file();
        format!("{plain}?sslmode={mode}&sslrootcert={}", root.display())
    };
    for url in [
        format!("{plain}?sslmode=require"),
        of("verify-full", &authority),
    ] {
        let registry = Registry::with(Start {
            variables: variables(&url),
            ..Start::default()
        })
        .await;
        let name = if url.contains("full") {
            "full"
        } else {
            "required"
        };
        let user = registry.user(name).await;
        let package = Package::new(name, "1.0.0");
        registry.publish(&user, &package).await.assert(201);
        are_safe(&plain).await;
        registry.stop().await;
    }
    for url in [
        // The system does not know who signed it, and neither does this one.
        format!("{plain}?sslmode=verify-full"),
        of("verify-full", &stranger),
    ] {
        let said = refusal(folder.path(), variables(&url)).await;
        assert!(said.contains("certificate"), "{said}");
        // No password is shown.
        let password = plain.split([':', '@']).nth(2).unwrap();
        assert!(!said.contains(password), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_counted_over_tls_as_its_address_says() {
    let server = tokio::task::spawn_blocking(server).await.unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    secure(&server, &authority);
    let settings = |authority: &Authority| {
        let (plain, root) = (&server.url, authority.file());
        let url = format!("{plain}?sslmode=verify-full&sslrootcert={}", root.display());
        vec![
            ("RUSTACCIO_QUOTA_BACKEND", "postgres".to_owned()),
            ("RUSTACCIO_QUOTA_POSTGRES_URL", url),
            ("RUSTACCIO_QUOTA_REQUESTS_PER_DAY", "1".to_owned()),
            ("RUSTACCIO_QUOTA_FAIL_OPEN", "false".to_owned()),
        ]
    };
    let registry = Registry::with(Start {
        variables: settings(&authority),
        ..Start::default()
    })
    .await;
    registry.get("/app").await.assert(404);
    registry.get("/app").await.assert(429);
    are_safe(&server.url).await;
    let folder = tempfile::tempdir().unwrap();
    let said = refusal(folder.path(), settings(&stranger)).await;
    assert!(said.contains("quota backend unavailable"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_which_stores_can_be_reached() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let url = crate::support::postgres::schema().await;
    let folder = tempfile::tempdir().unwrap();
    let check = ("RUSTACCIO_STARTUP_CONNECTIVITY_CHECK", "true");
    let reachable = variables(&url);
    let mut pairs: Vec<_> = reachable.iter().map(|(n, v)| (*n, &**v)).collect();
    pairs.push(check);
    let log = Process::start(folder.path(), &pairs).stop();
    let line = log.lines().find(|line| line.contains("postgres"));
    assert!(
        line.is_some_and(|line| line.contains("can be reached")),
        "{log}"
    );
    let away = format!("postgres://user:secret@{closed}/x");
    let pairs = [
        check,
        ("RUSTACCIO_METADATA_BACKEND", "transactional"),
        ("RUSTACCIO_METADATA_POSTGRES_URL", &away),
    ];
    let done = Process::command(folder.path(), &pairs).output().unwrap();
    assert!(!done.status.success());
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert!(said.contains("cannot be reached"), "{said}");
    assert!(
        said.contains(&closed.to_string()) && !said.contains("secret"),
        "{said}"
    );
}
