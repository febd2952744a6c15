//! A registry in this process, on a port of its own, and a client for it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use rustaccio::{
    app::build_router,
    auth::AuthHook,
    config::{Config, Env, ListenAddress, Sources},
    lifecycle::{Lifecycle, ManualClock, SharedClock, SystemClock},
    runtime::build_state_with_clock,
    server::{ServeOptions, bind, serve},
};
use serde_json::{Value, json};
use tempfile::TempDir;

#[cfg(all(
    feature = "test-services",
    feature = "s3",
    feature = "gcs",
    feature = "azure",
    feature = "postgres"
))]
use super::backend::variables as stored_in;
use super::{Package, publish_body};

/// The file that says so of a registry that stores elsewhere.
pub(crate) const STORED_IN: &str = "backend.json";

/// A running registry; stops when dropped.
pub(crate) struct Registry {
    pub(crate) url: String,
    pub(crate) client: Client,
    folder: Option<TempDir>,
    lifecycle: Lifecycle,
    task: tokio::task::JoinHandle<()>,
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) token: String,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `error` of a JSON error body.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn assert(self, status: u16) -> Self {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

/// What a registry is started with.
#[derive(Default)]
pub(crate) struct Start<'a> {
    pub(crate) variables: Vec<(&'a str, String)>,
    pub(crate) file: &'a str,
    pub(crate) folder: Option<TempDir>,
    /// For what no setting changes.
    pub(crate) tune: Option<fn(&mut Config)>,
    /// The machine's clock, if none is given.
    pub(crate) clock: Option<Arc<ManualClock>>,
    /// An embedder's users and rules.
    pub(crate) hook: Option<Arc<dyn AuthHook>>,
}

impl Registry {
    /// Alone, without an upstream.
    pub(crate) async fn alone() -> Self {
        Self::start(&[]).await
    }

    /// With these variables; without an upstream unless they name one.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Self::with(Start {
            variables,
            ..Start::default()
        })
        .await
    }

    /// With this file.
    pub(crate) async fn with_file(file: &str) -> Self {
        Self::with(Start {
            file,
            ..Start::default()
        })
        .await
    }

    /// Alone, where it is as late as `clock` says.
    pub(crate) async fn at(clock: &Arc<ManualClock>, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter();
        Self::with(Start {
            variables: variables
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            clock: Some(Arc::clone(clock)),
            ..Start::default()
        })
        .await
    }

    pub(crate) async fn with(start: Start<'_>) -> Self {
        let folder = start.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let stored_in = stored_in(folder.path()).await;
        // In a box: it is large, and every test waits for this.
        let config = config(&stored_in, &start.variables, start.file, folder.path());
        let mut config = Box::new(config);
        if let Some(tune) = start.tune {
            tune(&mut config);
        }
        let clock: SharedClock = match start.clock {
            Some(clock) => clock,
            None => Arc::new(SystemClock),
        };
        let state = Box::pin(build_state_with_clock(&config, start.hook, clock))
            .await
            .unwrap();
        let lifecycle = state.lifecycle().clone();
        let address = ListenAddress::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 0,
            tls: None,
        };
        let listeners = bind(&[address], None).await.unwrap();
        let url = format!(
            "http://{}{}",
            listeners[0].tcp_address().unwrap(),
            config.url_prefix
        );
        let options = ServeOptions {
            keep_alive_timeout: config.server.keep_alive_timeout,
            stall_timeout: config.server.request_timeout,
            max_connections: 10_000,
            connections: state.metrics().connections(),
        };
        let router = build_router(state);
        let served = lifecycle.clone();
        let task = lifecycle
            .spawn_untracked(async move { serve(listeners, router, options, &served).await });
        Self {
            url,
            client: client(),
            folder: Some(folder),
            lifecycle,
            task,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Whether all that it stores is in its folder, where a test can look at it.
    pub(crate) fn is_in_folder(&self) -> bool {
        !self.folder().join(STORED_IN).exists()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Stops it, and gives its folder back.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.lifecycle.begin_shutdown();
        (&mut self.task).await.unwrap();
        let drained = self.lifecycle.drain(std::time::Duration::from_secs(30));
        assert!(drained.await, "something still runs");
        self.folder.take().unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.unwrap().to_vec();
        Answer {
            status,
            headers,
            body,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn get_as(&self, user: &User, path: &str) -> Answer {
        let request = self.request(Method::GET, path).bearer_auth(&user.token);
        self.send(request).await
    }

    pub(crate) async fn send_json(
        &self,
        user: Option<&User>,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Answer {
        let mut request = with_json(self.request(method, path), body);
        if let Some(user) = user {
            request = request.bearer_auth(&user.token);
        }
        self.send(request).await
    }

    pub(crate) async fn put(&self, user: &User, path: &str, body: &Value) -> Answer {
        self.send_json(Some(user), Method::PUT, path, body).await
    }

    pub(crate) async fn delete(&self, user: &User, path: &str) -> Answer {
        let request = self.request(Method::DELETE, path).bearer_auth(&user.token);
        self.send(request).await
    }

    /// Registers somebody, or signs her in.
    pub(crate) async fn user(&self, name: &str) -> User {
        let answer = self.sign_in(name, "password").await.assert(201);
        User {
            token: answer.json()["token"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Answer {
        let path = format!("/-/user/org.couchdb.user:{name}");
        let body = json!({ "name": name, "password": password, "email": "x@example.com" });
        self.send_json(None, Method::PUT, &path, &body).await
    }

    pub(crate) async fn publish(&self, user: &User, package: &Package) -> Answer {
        self.publish_as(user, package, "latest").await
    }

    pub(crate) async fn publish_as(&self, user: &User, package: &Package, tag: &str) -> Answer {
        let path = format!("/{}", package.name.replace('/', "%2f"));
        self.put(user, &path, &publish_body(package, tag)).await
    }

    /// The bytes of a published tarball.
    pub(crate) async fn tarball(&self, package: &Package) -> Answer {
        let path = format!("/{}/-/{}", package.name, package.file());
        self.get(&path).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.lifecycle.stop_now();
        self.task.abort();
    }
}

/// `request` with `body` as JSON.
pub(crate) fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

/// A client that adds nothing of its own and follows nothing.
pub(crate) fn client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// What a run of the same test on another backend sets: nothing without services.
#[cfg(not(all(
    feature = "test-services",
    feature = "s3",
    feature = "gcs",
    feature = "azure",
    feature = "postgres"
)))]
fn stored_in(_: &Path) -> std::future::Ready<Vec<(String, String)>> {
    std::future::ready(Vec::new())
}

fn config(
    stored_in: &[(String, String)],
    variables: &[(&str, String)],
    file: &str,
    folder: &Path,
) -> Config {
    let mut env: Vec<(String, String)> = vec![
        (
            "RUSTACCIO_DATA_DIR".to_owned(),
            folder.join("data").display().to_string(),
        ),
        ("RUSTACCIO_UPSTREAM".to_owned(), "none".to_owned()),
    ];
    if file.contains("uplinks:") {
        env.pop();
    }
    env.extend_from_slice(stored_in);
    for (name, value) in variables {
        env.retain(|(known, _)| known != name);
        env.push(((*name).to_owned(), value.clone()));
    }
    let file = (!file.is_empty()).then(|| {
        let path = folder.join("config.yml");
        std::fs::write(&path, file).unwrap();
        path
    });
    let config = Config::load(&Sources {
        env: env.into_iter().collect::<Env>(),
        file,
        ..Sources::default()
    });
    assert!(
        config.problems().is_empty(),
        "{}",
        config.describe_problems()
    );
    config
}
