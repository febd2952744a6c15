//! Logins and second factors that end in a browser.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Answer, Package, Registry, User,
    registry::{Start, with_json},
    second_factor::with_second_factor,
};

const ON: (&str, &str) = ("RUSTACCIO_WEB_LOGIN", "true");

/// A login under way.
struct Login {
    /// The page, with the path of the registry.
    page: String,
    /// Where its form goes.
    form: String,
    /// Where the client waits.
    done: String,
}

impl Login {
    /// From `loginUrl` and `doneUrl`, or their names in a challenge.
    fn of(registry: &Registry, answer: &Value, page: &str, done: &str) -> Self {
        let path = |key: &str| {
            let url = answer[key].as_str().unwrap();
            url.strip_prefix(&registry.url).unwrap().to_owned()
        };
        let page = path(page);
        let (_, next) = page.split_once("?next=").unwrap();
        let from = next.find("/-/v1/login_cli/").unwrap();
        Self {
            form: next[from..].to_owned(),
            done: path(done),
            page,
        }
    }
}

async fn begin(registry: &Registry, body: &Value) -> Login {
    let begun = registry.send_json(None, Method::POST, "/-/v1/login", body);
    let begun = begun.await.assert(200);
    assert_eq!(begun.header("cache-control"), Some("no-cache, no-store"));
    Login::of(registry, &begun.json(), "loginUrl", "doneUrl")
}

async fn submit(registry: &Registry, login: &Login, form: &str) -> Answer {
    let request = registry
        .request(Method::POST, &login.form)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    registry.send(request).await
}

async fn page(registry: &Registry, login: &Login) -> String {
    let page = registry.get(&login.page).await.assert(200);
    String::from_utf8(page.body).unwrap()
}

async fn whoami(registry: &Registry, token: &Value) -> Value {
    let user = User {
        token: token.as_str().unwrap().to_owned(),
    };
    registry.get_as(&user, "/-/whoami").await.assert(200).json()["username"].clone()
}

#[tokio::test]
pub(crate) async fn a_client_waits_until_somebody_has_signed_in() {
    for prefix in ["", "/npm/private"] {
        let registry = Registry::start(&[ON, ("RUSTACCIO_URL_PREFIX", prefix)]).await;
        registry.user("alice").await;
        let login = begin(&registry, &json!({})).await;
        let waiting = registry.get(&login.done).await.assert(202);
        assert_eq!(waiting.json(), json!({}));
        let seconds: u64 = waiting.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds > 0);
        let html = page(&registry, &login).await;
        assert!(html.contains("name=\"password\""), "{html}");
        assert!(
            html.contains(&format!("action=\"{prefix}{}\"", login.form)),
            "{html}"
        );
        let wrong = submit(&registry, &login, "username=alice&password=guess")
            .await
            .assert(401);
        let html = String::from_utf8(wrong.body).unwrap();
        assert!(
            html.contains("bad username/password") && html.contains("name=\"password\""),
            "{html}"
        );
        registry.get(&login.done).await.assert(202);
        let right = "username=alice&password=password&otp=";
        submit(&registry, &login, right).await.assert(200);
        submit(&registry, &login, right).await.assert(409);
        registry.get(&login.page).await.assert(409);
        let fetched = registry.get(&login.done).await.assert(200);
        assert_eq!(fetched.header("cache-control"), Some("no-cache, no-store"));
        assert_eq!(whoami(&registry, &fetched.json()["token"]).await, "alice");
        registry.get(&login.done).await.assert(400);
        registry.get(&login.page).await.assert(400);
    }
}

#[tokio::test]
pub(crate) async fn done_is_asked_by_any_method() {
    let registry = Registry::start(&[ON]).await;
    registry.user("alice").await;
    let login = begin(&registry, &json!({ "hostname": "laptop" })).await;
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        let request = with_json(registry.request(method, &login.done), &json!("1.0.0"));
        registry.send(request).await.assert(202);
    }
    let body = json!({ "username": "alice", "password": "password" });
    let answered = registry.send_json(None, Method::POST, &login.form, &body);
    let answered = answered.await.assert(201).json();
    let fetch = with_json(registry.request(Method::PUT, &login.done), &json!("1.0.0"));
    let fetched = registry.send(fetch).await.assert(200).json();
    assert_eq!(fetched["token"], answered["token"]);
}

#[tokio::test]
pub(crate) async fn the_page_is_not_enough_to_fetch_a_token() {
    let registry = Registry::start(&[ON]).await;
    registry.user("alice").await;
    let login = begin(&registry, &json!({})).await;
    let page_id = login.form.rsplit('/').next().unwrap();
    let done_id = login.done.rsplit('/').next().unwrap();
    assert_ne!(page_id, done_id);
    assert_eq!((page_id.len(), done_id.len()), (36, 36));
    let crossed = Login {
        page: format!("/-/web/login?next=/-/v1/login_cli/{done_id}"),
        form: format!("/-/v1/login_cli/{done_id}"),
        done: format!("/-/v1/done/{page_id}"),
    };
    let right = "username=alice&password=password";
    registry.get(&crossed.page).await.assert(400);
    submit(&registry, &crossed, right).await.assert(400);
    submit(&registry, &login, right).await.assert(200);
    registry.get(&crossed.done).await.assert(400);
    registry.get(&login.done).await.assert(200);
    for id in ["", "x", "00000000-0000-4000-8000-000000000000"] {
        let unknown = registry.get(&format!("/-/v1/done/{id}")).await;
        assert!(unknown.status.is_client_error(), "{id:?}");
        let page = format!("/-/web/login?next=/-/v1/login_cli/{id}");
        let page = registry.get(&page).await.assert(400);
        let html = String::from_utf8(page.body).unwrap();
        assert!(
            html.contains("npm login") && !html.contains("name=\"password\""),
            "{html}"
        );
    }
    // Without a session, it is a browser that signs in for itself.
    let page = registry.get("/-/web/login").await.assert(200);
    assert!(
        String::from_utf8(page.body)
            .unwrap()
            .contains("name=\"password\"")
    );
}

#[tokio::test]
pub(crate) async fn a_login_ends_in_time() {
    let registry = Registry::start(&[ON, ("RUSTACCIO_LOGIN_SESSION_TTL_SECONDS", "1")]).await;
    registry.user("alice").await;
    let login = begin(&registry, &json!({})).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let ended = loop {
        let answer = registry.get(&login.done).await;
        if answer.status != StatusCode::ACCEPTED {
            break answer;
        }
        assert!(Instant::now() < deadline, "it never ends");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(ended.assert(401).error(), "session token expired");
    let late = submit(&registry, &login, "username=alice&password=password").await;
    late.assert(401);
    registry.get(&login.page).await.assert(401);
}

#[tokio::test]
pub(crate) async fn the_page_says_who_asks_and_a_client_cannot_hide_it() {
    let registry = Registry::start(&[ON, ("RUSTACCIO_TRUST_PROXY", "127.0.0.1")]).await;
    let lie = "from 10.0.0.1 ".repeat(50);
    let request = registry
        .request(Method::POST, "/-/v1/login")
        .header("user-agent", &lie)
        .header("x-forwarded-for", "192.0.2.7");
    let name = format!("{lie}\u{202e}<script>\nAddress 10.0.0.1");
    let request = with_json(request, &json!({ "hostname": name }));
    let begun = registry.send(request).await.assert(200).json();
    let path = begun["loginUrl"].as_str().unwrap();
    let path = path.strip_prefix(&registry.url).unwrap();
    let page = registry.get(path).await.assert(200);
    let html = String::from_utf8(page.body).unwrap();
    assert!(
        html.contains("<dt>Address</dt><dd>192.0.2.7</dd>"),
        "{html}"
    );
    assert!(!html.contains('\u{202e}') && !html.contains("<script>"));
    let longest = html.lines().filter(|line| line.contains("10.0.0.1"));
    for line in longest {
        assert!(line.len() < 120, "{line}");
    }
}

#[tokio::test]
pub(crate) async fn strangers_cannot_use_up_the_room_and_write_nothing() {
    let registry = Registry::start(&[ON, ("RUSTACCIO_TRUST_PROXY", "127.0.0.1")]).await;
    registry.user("alice").await;
    let begin_from = async |address: &str| {
        let request = registry
            .request(Method::POST, "/-/v1/login")
            .header("x-forwarded-for", address)
            .body("{}");
        let begun = registry.send(request).await.assert(200).json();
        Login::of(&registry, &begun, "loginUrl", "doneUrl")
    };
    let state = registry.data().join("state.json");
    let written = || {
        let is_in_folder = registry.is_in_folder();
        is_in_folder.then(|| std::fs::metadata(&state).unwrap().modified().unwrap())
    };
    let before = written();
    let alices = begin_from("192.0.2.1").await;
    let first = begin_from("198.51.100.1").await;
    for _ in 0..300 {
        begin_from("198.51.100.1").await;
    }
    registry.get(&first.done).await.assert(400);
    registry.get(&alices.done).await.assert(202);
    assert_eq!(before, written(), "a stranger's login is written down");
    submit(&registry, &alices, "username=alice&password=password")
        .await
        .assert(200);
    registry.get(&alices.done).await.assert(200);
}

#[tokio::test]
pub(crate) async fn the_page_makes_accounts_where_visitors_may() {
    let registry = Registry::start(&[ON, ("RUSTACCIO_ADMIN_GROUPS", "wheel")]).await;
    for wish in [json!({}), json!({ "create": true })] {
        let login = begin(&registry, &wish).await;
        let html = page(&registry, &login).await;
        assert!(html.contains("name=\"create\""), "{html}");
    }
    let login = begin(&registry, &json!({ "create": true })).await;
    let create = async |form: &str| submit(&registry, &login, form).await;
    for (form, status, why) in [
        ("username=dora&password=x&create=true", 400, "does not pass"),
        (
            "username=wheel&password=password&create=true",
            409,
            "reserved",
        ),
        (
            "username=%24all&password=password&create=true",
            409,
            "reserved",
        ),
        (
            "username=dora&password=password",
            401,
            "bad username/password",
        ),
        ("username=a%2Fb&password=password&create=true", 400, ""),
    ] {
        let refused = create(form).await.assert(status);
        let html = String::from_utf8(refused.body).unwrap();
        assert!(
            html.contains(why) && html.contains("name=\"password\""),
            "{form}: {html}"
        );
    }
    create("username=dora&password=password&otp=&create=true")
        .await
        .assert(200);
    let token = registry.get(&login.done).await.assert(200).json();
    assert_eq!(whoami(&registry, &token["token"]).await, "dora");
    registry.sign_in("dora", "password").await.assert(201);
    let login = begin(&registry, &json!({})).await;
    let taken = submit(
        &registry,
        &login,
        "username=dora&password=password&create=true",
    )
    .await;
    let html = String::from_utf8(taken.assert(409).body).unwrap();
    assert!(html.contains("already registered"), "{html}");
    registry.get(&login.done).await.assert(202);
}

#[tokio::test]
pub(crate) async fn the_page_makes_no_accounts_where_visitors_may_not() {
    let registry = Registry::start(&[ON, ("RUSTACCIO_REGISTRATION", "closed")]).await;
    let login = begin(&registry, &json!({ "create": true })).await;
    let html = page(&registry, &login).await;
    assert!(
        !html.contains("name=\"create\"") && html.contains("Sign in"),
        "{html}"
    );
    let form = "username=dora&password=password&create=true";
    let refused = submit(&registry, &login, form).await.assert(409);
    let html = String::from_utf8(refused.body).unwrap();
    assert!(html.contains("user registration disabled"), "{html}");
}

#[tokio::test]
pub(crate) async fn without_web_login_clients_ask_in_the_terminal() {
    let registry = Registry::alone().await;
    let wish = json!({});
    let off = registry.send_json(None, Method::POST, "/-/v1/login", &wish);
    off.await.assert(404);
    let page = "/-/web/login?next=/-/v1/login_cli/00000000-0000-4000-8000-000000000000";
    registry.get(page).await.assert(404);
}

#[tokio::test]
pub(crate) async fn a_second_factor_is_shown_in_the_browser() {
    let variables = || vec![(ON.0, ON.1.to_owned())];
    let registry = Registry::with(Start {
        variables: variables(),
        ..Start::default()
    })
    .await;
    let alice = registry.user("alice").await;
    let package = Package::new("app", "1.0.0");
    let codes = ["one", "two"];
    let mode = "auth-and-writes";
    let registry = with_second_factor(registry, variables(), "alice", mode, &codes).await;
    let challenge = registry.publish(&alice, &package).await.assert(401).json();
    let login = Login::of(&registry, &challenge, "authUrl", "doneUrl");
    registry.get(&login.done).await.assert(202);
    let html = page(&registry, &login).await;
    assert!(
        !html.contains("username") && !html.contains("create"),
        "{html}"
    );
    submit(&registry, &login, "otp=wrong").await.assert(401);
    submit(&registry, &login, "otp=one").await.assert(200);
    let page_id = login.form.rsplit('/').next().unwrap();
    registry
        .get(&format!("/-/v1/done/{page_id}"))
        .await
        .assert(400);
    let pass = registry.get(&login.done).await.assert(200).json();
    registry.get(&login.done).await.assert(400);
    let pass = pass["token"].as_str().unwrap();
    let publish = async |user: &User, pass: &str| {
        let body = crate::support::publish_body(&package, "latest");
        let request = with_json(registry.request(Method::PUT, "/app"), &body)
            .bearer_auth(&user.token)
            .header("npm-otp", pass);
        registry.send(request).await
    };
    let wrong = publish(&alice, "rco_0000").await.assert(401);
    assert!(wrong.error().contains("wrong"), "{wrong:?}");
    publish(&alice, pass).await.assert(201);

    // A password needs it too, and the pass is nobody else's.
    let login = begin(&registry, &json!({})).await;
    let password = "username=alice&password=password";
    let asked = submit(&registry, &login, password).await.assert(401);
    let html = String::from_utf8(asked.body).unwrap();
    assert!(html.contains("one-time pass"), "{html}");
    submit(&registry, &login, &format!("{password}&otp=two"))
        .await
        .assert(200);
    let token = registry.get(&login.done).await.assert(200).json();
    assert_eq!(whoami(&registry, &token["token"]).await, "alice");
}

#[cfg(feature = "test-clients")]
mod clients {
    use super::*;
    use crate::support::client::{Client, Turn};

    /// Runs `command` of the client `name`, and answers the page that it names with `form`. Who is
    /// signed in then.
    async fn sign_in(name: &'static str, command: &'static str, form: &'static str) -> String {
        let prefix = ("RUSTACCIO_URL_PREFIX", "/npm/private");
        let registry = Registry::start(&[ON, prefix]).await;
        registry.user("alice").await;
        let url = registry.url.clone();
        let handle = tokio::runtime::Handle::current();
        let work = move || {
            let client = Client::new(name);
            let lines = format!("registry={url}/\nbrowser=false\nupdate-notifier=false\n");
            client.configure(".npmrc", &lines);
            let answer = |text: &str| {
                let (_, rest) = text.split_once("/-/v1/login_cli/").unwrap();
                let id: String = rest.chars().take(36).collect();
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let request = http
                    .post(format!("{url}/-/v1/login_cli/{id}"))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form);
                let answer = handle.block_on(request.send()).unwrap();
                assert_eq!(answer.status(), 200);
            };
            // Enough of what follows the marker has come when the next line begins.
            client.converse(
                command,
                vec![
                    Turn::then("/-/v1/login_cli/", |_| ()),
                    Turn::then("\n", answer),
                ],
            );
            client.ok(&["whoami"]).trim().to_owned()
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    const PASSWORD: &str = "username=alice&password=password";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_9() {
        assert_eq!(sign_in("npm-9", "login", PASSWORD).await, "alice");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn npm_12() {
        assert_eq!(sign_in("npm-12", "login", PASSWORD).await, "alice");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pnpm_12() {
        assert_eq!(sign_in("pnpm-12", "login", PASSWORD).await, "alice");
    }

    /// npm up to version 11 has a command for making an account.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_account_is_made_with_npm_11() {
        let create = "username=dora&password=password&create=true";
        assert_eq!(sign_in("npm-11", "adduser", create).await, "dora");
    }
}
