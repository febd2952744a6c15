//! The examples, and whatever reads the process's own environment: each runs in a process of its
//! own, which is this program again.

use std::{
    future::Future,
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, Method, StatusCode};
use rustaccio::{config::Config, error::RegistryError, runtime};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::Hook;
use crate::support::{Package, publish_body, registry::client};

#[path = "../../../examples/company_auth_hook.rs"]
#[expect(dead_code, reason = "the test is its `main`")]
mod company_auth_hook;
#[path = "../../../examples/custom_binary.rs"]
#[expect(dead_code, reason = "the test is its `main`")]
mod custom_binary;
#[path = "../../../examples/nested_router.rs"]
#[expect(dead_code, reason = "the test is its `main`")]
mod nested_router;

/// Which program this process is; in tests none.
const ROLE: &str = "EMBEDDING_PROGRAM";

/// A program that embeds the registry; killed when dropped.
struct Program {
    child: Child,
    folder: TempDir,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(role: &str) -> Self {
        Self::with_file(role, "")
    }

    /// With this file in its working folder.
    fn with_file(role: &str, file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yml"), file).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "embedding::programs::plays_a_program",
                "--nocapture",
            ])
            .env_clear()
            .env(ROLE, role)
            .env("RUSTACCIO_UPSTREAM", "none")
            .env("RUSTACCIO_DATA_DIR", folder.path().join("data"))
            .env(
                "RUSTACCIO_BIND",
                format!("unix:{}/socket", folder.path().display()),
            )
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            folder,
            lines,
        }
    }

    /// A client for its socket; it takes connections.
    async fn client(&mut self) -> Client {
        let socket = self.folder.path().join("socket");
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            assert_eq!(self.child.try_wait().unwrap(), None, "it has ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Client::builder().unix_socket(socket).build().unwrap()
    }

    /// The next address that it prints.
    fn address(&mut self) -> String {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("listens at ")?.1.to_owned()));
        address.expect("it has ended")
    }

    /// Asks it to stop, which it does in order.
    fn stop(mut self, signal: &str) {
        let id = self.child.id().to_string();
        Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what the other tests start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plays_a_program() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let served: Result<(), RegistryError> = match role.as_str() {
        "run_from_env" => runtime::run_from_env().await,
        "run_standalone" => runtime::run_standalone(Config::from_env()).await,
        "run" => runtime::run(Config::from_env(), Some(Arc::new(Hook))).await,
        "custom_binary" => {
            let file = Some(PathBuf::from("config.yml"));
            runtime::run_standalone(custom_binary::settings(file).unwrap()).await
        }
        "company_auth_hook" => {
            let directory = company_auth_hook::Directory::default()
                .user("alice", "correct horse", &["web", "board"])
                .user("robot", "battery staple", &["web"])
                .user("root", "hunter2 hunter2", &["admins"])
                .token("robot-token", "robot");
            let hook = company_auth_hook::CompanyHook(directory);
            runtime::run(Config::from_env(), Some(Arc::new(hook))).await
        }
        "nested_router" => {
            tokio::join!(nested("one"), nested("two"));
            Ok(())
        }
        _ => panic!("{role}"),
    };
    served.unwrap();
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
async fn nested(data: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listens at http://{}", listener.local_addr().unwrap());
    let stopped = async { tokio::signal::ctrl_c().await.unwrap() };
    let served = nested_router::serve(listener, Path::new(data).to_owned(), stopped);
    served.await.unwrap();
}

async fn ask(
    client: &Client,
    method: Method,
    url: &str,
    token: Option<&str>,
    body: &Value,
) -> (StatusCode, Value) {
    let mut request = client.request(method, url).body(body.to_string());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn get<'a>(
    client: &'a Client,
    url: &'a str,
    token: Option<&'a str>,
) -> impl Future<Output = (StatusCode, Value)> + 'a {
    static NOTHING: Value = Value::Null;
    ask(client, Method::GET, url, token, &NOTHING)
}

async fn put(client: &Client, url: &str, token: &str, name: &str) -> StatusCode {
    let body = publish_body(&Package::new(name, "1.0.0"), "latest");
    let url = format!("{url}/{}", name.replace('/', "%2f"));
    ask(client, Method::PUT, &url, Some(token), &body).await.0
}

/// Signs somebody in; her token.
async fn sign_in(client: &Client, url: &str, name: &str, password: &str) -> Option<String> {
    let url = format!("{url}/-/user/org.couchdb.user:{name}");
    let body = json!({ "name": name, "password": password });
    let (_, answer) = ask(client, Method::PUT, &url, None, &body).await;
    Some(answer["token"].as_str()?.to_owned())
}

const SOCKET: &str = "http://localhost";

#[tokio::test]
async fn each_way_to_run_it_serves_until_it_is_asked_to_stop() {
    for role in ["run_from_env", "run_standalone", "run"] {
        let mut program = Program::start(role);
        let client = program.client().await;
        let (status, _) = get(&client, "http://localhost/-/ping", None).await;
        assert_eq!(status, 200, "{role}");
        let url = "http://localhost/-/whoami";
        let (status, _) = get(&client, url, Some("robot-token")).await;
        assert_eq!(status == 200, role == "run");
        drop(client);
        program.stop("-TERM");
    }
}

#[tokio::test]
async fn a_program_of_ones_own_reads_its_file() {
    let mut program = Program::with_file("custom_binary", "url_prefix: /npm\n");
    let client = program.client().await;
    let (status, _) = get(&client, "http://localhost/npm/-/ping", None).await;
    assert_eq!(status, 200);
    drop(client);
    program.stop("-TERM");
    let config = custom_binary::settings(None).unwrap();
    assert_eq!(config.web.title, "Packages of the house");
    assert!(custom_binary::settings(Some("/missing.yml".into())).is_err());
}

#[tokio::test]
async fn a_company_brings_its_own_users_and_rules() {
    let mut program = Program::start("company_auth_hook");
    let client = program.client().await;
    assert_eq!(sign_in(&client, SOCKET, "alice", "wrong").await, None);
    let alice = sign_in(&client, SOCKET, "alice", "correct horse")
        .await
        .unwrap();
    for (token, name, expected) in [
        ("robot-token", "@web/app", 201),
        ("robot-token", "@board/plan", 403),
        ("robot-token", "plain", 201),
        (&alice, "@board/plan", 201),
        ("nonsense", "@web/other", 401),
    ] {
        let status = put(&client, SOCKET, token, name).await;
        assert_eq!(status, expected, "{name}");
    }
    for (token, expected) in [
        (None, 401),
        (Some("robot-token"), 403),
        (Some(&*alice), 200),
    ] {
        let (status, _) = get(&client, "http://localhost/@board%2fplan", token).await;
        assert_eq!(status, expected);
    }
    // Whoever may publish may not take away; whoever may take away may not publish.
    let root = sign_in(&client, SOCKET, "root", "hunter2 hunter2").await;
    let root = root.unwrap();
    assert_eq!(put(&client, SOCKET, &root, "@web/app").await, 403);
    let app = "http://localhost/@web%2fapp";
    for (token, expected, left) in [("robot-token", 403, 200), (&root, 201, 404)] {
        let url = format!("{app}/-rev/1");
        let asked = ask(&client, Method::DELETE, &url, Some(token), &Value::Null);
        assert_eq!(asked.await.0, expected, "{token}");
        assert_eq!(get(&client, app, Some(token)).await.0, left, "{token}");
    }
    drop(client);
    program.stop("-TERM");
}

#[tokio::test]
async fn two_nested_registries_live_in_one_process() {
    let mut program = Program::start("nested_router");
    let (one, two) = (program.address(), program.address());
    let client = client();
    let registry = format!("{one}/registry");
    let token = sign_in(&client, &registry, "alice", "password")
        .await
        .unwrap();
    assert_eq!(put(&client, &registry, &token, "@s/app").await, 201);
    let (status, document) = get(&client, &format!("{registry}/@s%2fapp"), None).await;
    let tarball = document["versions"]["1.0.0"]["dist"]["tarball"].as_str();
    let tarball = tarball.unwrap().to_owned();
    assert_eq!(
        (status.as_u16(), &tarball),
        (200, &format!("{registry}/@s/app/-/app-1.0.0.tgz"))
    );
    assert_eq!(get(&client, &tarball, None).await.0, 200);
    // The other one knows neither the package nor the user.
    let other = format!("{two}/registry/@s%2fapp");
    assert_eq!(get(&client, &other, None).await.0, 404);
    let whoami = format!("{two}/registry/-/whoami");
    assert_eq!(get(&client, &whoami, Some(&token)).await.0, 401);
    let page = client.get(&two).send().await.unwrap();
    assert_eq!(page.text().await.unwrap(), "a page of the program");
    drop(client);
    program.stop("-INT");
}
