//! Pages, as what they are to a client of HTTP: who gets which, and what they tell a browser to do. What
//! people see and do in them is walked through in a browser.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, Package, Registry, User, second_factor::with_second_factor};

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// A browser: what it sends with each request.
struct Browser<'a> {
    registry: &'a Registry,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            cookie: String::new(),
        }
    }

    /// One that `name` has signed in with.
    async fn of(registry: &'a Registry, name: &str) -> Self {
        let mut browser = Self::new(registry);
        let form = format!("username={name}&password=password");
        let answer = browser.post("/-/web/login", &form, &[]).await.assert(303);
        let cookie = answer.header("set-cookie").unwrap();
        for attribute in ["HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let (pair, _) = cookie.split_once(';').unwrap();
        pair.clone_into(&mut browser.cookie);
        browser
    }

    async fn get(&self, path: &str) -> Answer {
        let request = self.registry.request(Method::GET, path);
        let request = request
            .header("accept", HTML)
            .header("cookie", &self.cookie);
        self.registry.send(request).await
    }

    async fn html(&self, path: &str) -> String {
        text(self.get(path).await.assert(200))
    }

    async fn post(&self, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.registry.request(Method::POST, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", &self.cookie)
            .body(form.to_owned());
        self.registry.send(request).await
    }

    /// What forms of this browser have to send along.
    async fn proof(&self) -> String {
        let html = self.html("/-/web/settings").await;
        let (_, rest) = html.split_once("name=\"proof\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

fn text(answer: Answer) -> String {
    String::from_utf8(answer.body).unwrap()
}

#[track_caller]
fn has(html: &str, part: &str) {
    assert!(html.contains(part), "`{part}` is not in {html}");
}

#[track_caller]
fn lacks(html: &str, part: &str) {
    assert!(!html.contains(part), "`{part}` is in {html}");
}

#[tokio::test]
async fn pages_are_for_browsers_and_clients_get_what_they_always_got() {
    for prefix in ["", "/npm"] {
        let registry = Registry::start(&[
            ("RUSTACCIO_URL_PREFIX", prefix),
            ("RUSTACCIO_WEB_TITLE", "Acme <packages>"),
        ])
        .await;
        let alice = registry.user("alice").await;
        let package = Package::new("@acme/app", "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
        let client = registry.get("/").await.assert(200);
        assert_eq!(client.header("vary"), Some("accept"));
        assert!(!text(client).contains("<html"));
        let browser = Browser::new(&registry);
        for path in [
            "/",
            "/-/web",
            "/-/web/detail/@acme/app",
            "/-/web/detail/@acme%2fapp",
            "/-/web/detail/@acme/app/v/1.0.0",
            "/-/web/login",
        ] {
            let page = browser.get(path).await.assert(200);
            assert_eq!(
                page.header("content-type"),
                Some("text/html; charset=utf-8")
            );
            let policy = page.header("content-security-policy").unwrap();
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "frame-ancestors 'none'",
            ] {
                has(policy, part);
            }
            lacks(policy, "unsafe-inline");
            let html = text(page);
            has(&html, "Acme &#60;packages&#62;");
            // Whatever a page leads to stands below the prefix.
            for (_, address) in addresses(&html) {
                let is_below = address.starts_with(&format!("{prefix}/"));
                assert!(is_below || address.starts_with('#'), "{path}: {address}");
            }
        }
    }
}

/// Attribute and value of what a page loads, links to or sends.
fn addresses(html: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for attribute in ["href", "src", "action"] {
        for part in html.split(&format!(" {attribute}=\"")).skip(1) {
            found.push((attribute, part.split('"').next().unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn the_first_page_is_small_and_loads_only_what_it_names() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for number in 0..60 {
        let package = Package::new(&format!("package-{number}"), "1.0.0");
        registry.publish(&alice, &package).await.assert(201);
    }
    let browser = Browser::new(&registry);
    let html = browser.html("/").await;
    let mut total = html.len();
    let mut loaded = 0;
    for (_, address) in addresses(&html) {
        if !address.contains("/-/web/static/") {
            continue;
        }
        let file = browser.get(address).await.assert(200);
        let kept = file.header("cache-control").unwrap();
        has(kept, "immutable");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        lacks(&String::from_utf8_lossy(&file.body), "import ");
        lacks(&String::from_utf8_lossy(&file.body), "url(");
        total += file.body.len();
        loaded += 1;
    }
    assert!(loaded >= 3, "{loaded}");
    assert!(total < 60_000, "{total} bytes");
    browser
        .get("/-/web/static/page.000000000000.js")
        .await
        .assert(404);
    browser
        .get("/-/web/static/..%2fCargo.toml")
        .await
        .assert(400);
}

#[tokio::test]
async fn pages_may_be_closed() {
    let registry = Registry::start(&[("RUSTACCIO_WEB_ENABLE", "false")]).await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let browser = Browser::new(&registry);
    for path in [
        "/-/web",
        "/-/web/login",
        "/-/web/settings",
        "/-/web/detail/app",
        "/-/web/detail/app/v/1.0.0",
        "/-/web/raw/app/1.0.0",
        "/-/web/tarball/app/app-1.0.0.tgz",
    ] {
        let answer = browser.get(path).await.assert(404);
        assert!(!text(answer).contains("<html"), "{path}");
    }
    assert!(!text(browser.get("/").await.assert(200)).contains("<html"));
    for path in ["/-/web/login", "/-/web/logout", "/-/web/theme"] {
        browser
            .post(path, "username=alice&password=password", &[])
            .await
            .assert(404);
    }
    registry.get("/app").await.assert(200);
}

#[tokio::test]
async fn pages_show_what_the_api_shows_and_nothing_else() {
    let rules = "packages:\n  'secret*': {access: alice, publish: alice}\n  '**': {access: $all, publish: $authenticated}\n";
    let registry = Registry::with_file(rules).await;
    let alice = registry.user("alice").await;
    registry.user("mallory").await;
    let open = Package::new("open", "1.0.0");
    registry.publish(&alice, &open).await.assert(201);
    let secret = json!({ "dependencies": { "open": "^1.0.0" }, "description": "hush" });
    let secret = Package::with("secret-plan", "1.0.0", &secret, &[]);
    registry.publish(&alice, &secret).await.assert(201);
    let of_alice = Browser::of(&registry, "alice").await;
    has(&of_alice.html("/").await, "secret-plan");
    has(&of_alice.html("/-/web/detail/open").await, "secret-plan");
    has(&of_alice.html("/-/web/detail/secret-plan").await, "hush");
    of_alice
        .get("/-/web/raw/secret-plan/1.0.0")
        .await
        .assert(200);
    let tarball = of_alice
        .get("/-/web/tarball/secret-plan/secret-plan-1.0.0.tgz")
        .await;
    assert_eq!(tarball.assert(200).body, secret.tarball);
    let strangers = [
        Browser::new(&registry),
        Browser::of(&registry, "mallory").await,
    ];
    for browser in &strangers {
        for path in [
            "/",
            "/-/web?q=secret",
            "/-/web?q=hush",
            "/-/web/detail/open",
        ] {
            lacks(&browser.html(path).await, "secret-plan");
        }
        for (hidden, missing) in [
            ("/-/web/detail/secret-plan", "/-/web/detail/secret-nothing"),
            (
                "/-/web/raw/secret-plan/1.0.0",
                "/-/web/raw/secret-nothing/1.0.0",
            ),
            (
                "/-/web/tarball/secret-plan/secret-plan-1.0.0.tgz",
                "/-/web/tarball/secret-nothing/secret-nothing-1.0.0.tgz",
            ),
        ] {
            let (hidden, missing) = (browser.get(hidden).await, browser.get(missing).await);
            assert_eq!(hidden.status, missing.status);
            let hidden = text(hidden).replace("secret-plan", "secret-nothing");
            assert_eq!(hidden, text(missing));
        }
    }
}

#[tokio::test]
async fn each_version_has_the_readme_that_came_with_it() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    for (version, text) in [("1.0.0", "# The first"), ("2.0.0", "# The second")] {
        let files: [(&str, &[u8]); 1] = [("README.md", text.as_bytes())];
        let package = Package::with("app", version, &json!({}), &files);
        registry.publish(&alice, &package).await.assert(201);
    }
    let bare = Package::new("app", "3.0.0");
    registry.publish_as(&alice, &bare, "next").await.assert(201);
    let browser = Browser::new(&registry);
    for _ in 0..2 {
        let first = browser.html("/-/web/detail/app/v/1.0.0").await;
        has(&first, "id=\"readme-the-first\"");
        let second = browser.html("/-/web/detail/app/v/2.0.0").await;
        has(&second, "id=\"readme-the-second\"");
        lacks(
            &browser.html("/-/web/detail/app/v/3.0.0").await,
            "id=\"readme-",
        );
    }
}

#[tokio::test]
async fn a_cookie_counts_on_pages_alone() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let browser = Browser::of(&registry, "alice").await;
    has(&browser.html("/-/web/settings").await, "alice");
    browser.get("/-/whoami").await.assert(401);
    browser.get("/-/npm/v1/tokens").await.assert(401);
    let publish = registry
        .request(Method::PUT, "/app")
        .header("cookie", &browser.cookie)
        .header("content-type", "application/json")
        .body("{}");
    registry.send(publish).await.assert(401);
}

#[tokio::test]
async fn forms_of_others_change_nothing() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let browser = Browser::of(&registry, "alice").await;
    let proof = browser.proof().await;
    let form = format!("proof={proof}&name=robot&password=password");
    let forged = [
        ("name=robot&password=password", vec![]),
        ("proof=00&name=robot&password=password", vec![]),
        (form.as_str(), vec![("sec-fetch-site", "cross-site")]),
        (form.as_str(), vec![("sec-fetch-site", "same-site")]),
        (form.as_str(), vec![("origin", "https://evil.example")]),
        (form.as_str(), vec![("origin", "null")]),
    ];
    for (form, headers) in forged {
        let answer = browser.post("/-/web/settings/tokens", form, &headers).await;
        has(&text(answer.assert(403)), "does not come from a page");
    }
    lacks(&browser.html("/-/web/settings").await, "robot");
    let own = [("sec-fetch-site", "same-origin")];
    let made = browser
        .post("/-/web/settings/tokens", &form, &own)
        .await
        .assert(200);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = text(made);
    has(&made, "robot");
    // Nobody signs others in either.
    let stranger = Browser::new(&registry);
    let sign_in = "username=alice&password=password";
    let cross = [("sec-fetch-site", "cross-site")];
    let refused = stranger
        .post("/-/web/login", sign_in, &cross)
        .await
        .assert(403);
    assert_eq!(refused.header("set-cookie"), None);
}

#[tokio::test]
async fn a_token_is_made_with_its_limits_shown_once_and_revoked() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    registry
        .publish(&alice, &Package::new("app", "1.0.0"))
        .await
        .assert(201);
    let browser = Browser::of(&registry, "alice").await;
    let proof = browser.proof().await;
    let form = format!(
        "proof={proof}&name=robot&password=password&readonly=true&days=3&packages=app&networks=127.0.0.0/8"
    );
    let made = text(
        browser
            .post("/-/web/settings/tokens", &form, &[])
            .await
            .assert(200),
    );
    let (_, rest) = made.split_once("<pre tabindex=\"0\"><code>").unwrap();
    let token = rest.split('<').next().unwrap().to_owned();
    let robot = User { token };
    let who = registry.get_as(&robot, "/-/whoami").await.assert(200);
    assert_eq!(who.json()["username"], "alice");
    registry
        .publish(&robot, &Package::new("app", "2.0.0"))
        .await
        .assert(403);
    let html = browser.html("/-/web/settings").await;
    lacks(&html, &robot.token);
    for part in ["robot", "127.0.0.0/8", "<bdi>app</bdi>"] {
        has(&html, part);
    }
    let (_, row) = html.split_once("robot").unwrap();
    let (_, key) = row.split_once("name=\"key\" value=\"").unwrap();
    let key = key.split('"').next().unwrap();
    let form = format!("proof={proof}&key={key}");
    browser
        .post("/-/web/settings/tokens/revoke", &form, &[])
        .await
        .assert(200);
    registry.get_as(&robot, "/-/whoami").await.assert(401);
    // What is wrong with a form is said, and nothing is made.
    for wrong in [
        "password=wrong",
        "password=password&networks=nowhere",
        "password=password&days=x",
    ] {
        let form = format!("proof={proof}&name=second-robot&{wrong}");
        let answer = browser.post("/-/web/settings/tokens", &form, &[]).await;
        assert!(
            answer.status.is_client_error(),
            "{wrong}: {}",
            answer.status
        );
    }
    lacks(&browser.html("/-/web/settings").await, "second-robot");
}

#[tokio::test]
async fn an_account_is_changed_with_its_second_factor_alone() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let cookie = Browser::of(&registry, "alice").await.cookie;
    let codes = ["one-recovery-code"];
    let registry = with_second_factor(registry, Vec::new(), "alice", "auth-only", &codes).await;
    let browser = Browser {
        registry: &registry,
        cookie,
    };
    let proof = browser.proof().await;
    for (path, form) in [
        ("second-factor", "change=disable&password=password"),
        ("tokens", "name=robot&password=password"),
        ("password", "old=password&new=another-password"),
        ("tokens/revoke", "key=unknown"),
    ] {
        let path = format!("/-/web/settings/{path}");
        let form = format!("proof={proof}&{form}");
        browser.post(&path, &form, &[]).await.assert(401);
    }
    let wrong = format!("proof={proof}&change=disable&password=password&otp=another-code");
    let refused = browser.post("/-/web/settings/second-factor", &wrong, &[]);
    refused.await.assert(401);
    let html = browser.html("/-/web/settings").await;
    has(&html, "name=\"otp\"");
    lacks(&html, "robot");
    let [pass] = codes;
    let form = format!("proof={proof}&change=disable&password=password&otp={pass}");
    let off = browser.post("/-/web/settings/second-factor", &form, &[]);
    off.await.assert(200);
    lacks(&browser.html("/-/web/settings").await, "name=\"otp\"");
    registry.sign_in("alice", "password").await.assert(201);
}

#[tokio::test]
async fn signing_out_and_a_new_password_end_the_session() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let browser = Browser::of(&registry, "alice").await;
    let form = format!("proof={}", browser.proof().await);
    let out = browser.post("/-/web/logout", &form, &[]).await.assert(303);
    has(out.header("set-cookie").unwrap(), "Max-Age=0");
    // Whoever kept the cookie has nothing of it.
    let asked = browser.get("/-/web/settings").await.assert(303);
    has(asked.header("location").unwrap(), "/-/web/login");
    let (one, other) = (
        Browser::of(&registry, "alice").await,
        Browser::of(&registry, "alice").await,
    );
    let form = format!(
        "proof={}&old=password&new=another-password",
        one.proof().await
    );
    let wrong = form.replace("old=password", "old=guess");
    let refused = one.post("/-/web/settings/password", &wrong, &[]).await;
    assert!(refused.status.is_client_error(), "{}", refused.status);
    other.get("/-/web/settings").await.assert(200);
    let changed = one.post("/-/web/settings/password", &form, &[]).await;
    assert!(changed.status.is_success() || changed.status == StatusCode::SEE_OTHER);
    other.get("/-/web/settings").await.assert(303);
    registry
        .sign_in("alice", "another-password")
        .await
        .assert(201);
}

#[tokio::test]
async fn a_browser_is_sent_nowhere_else() {
    let registry = Registry::alone().await;
    registry.user("alice").await;
    let browser = Browser::new(&registry);
    for back in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "/%0d%0aset-cookie:a=b",
        "javascript:alert(1)",
        "/\u{e9}",
    ] {
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("username", "alice")
            .append_pair("password", "password")
            .append_pair("back", back)
            .finish();
        let answer = browser.post("/-/web/login", &form, &[]).await.assert(303);
        let location = answer.header("location").unwrap();
        assert!(location == "/" || location == back, "{back}: {location}");
        assert!(
            location.starts_with('/') && !location.starts_with("//"),
            "{location}"
        );
        lacks(location, "\\");
    }
    let form = "username=alice&password=password&back=/-/web/detail/app";
    let answer = browser.post("/-/web/login", form, &[]).await.assert(303);
    assert_eq!(answer.header("location"), Some("/-/web/detail/app"));
}

#[tokio::test]
async fn a_failure_is_a_page_with_its_status() {
    let registry = Registry::alone().await;
    let browser = Browser::new(&registry);
    for (path, status) in [
        ("/-/web/detail/nothing-here", 404),
        ("/-/web/detail/@x", 400),
        ("/-/web/detail/app/v/%00", 400),
        ("/-/web/nowhere", 404),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
    let html = text(browser.get("/-/web/detail/nothing-here").await);
    has(&html, "<h1>");
    has(&html, "404");
}
