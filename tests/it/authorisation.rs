//! Who may do what, route by route and caller by caller: `docs/authorisation.md` is made here. And
//! nobody hears of a package that she may not see.

mod deciders;
mod requests;

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Answer, Package, Registry, User, registry::Start};
use deciders::{Decider, Decides};
use requests::{ROWS, Row, routes};

/// Set to anything, it takes the table as it is now.
const ACCEPT: &str = "RUSTACCIO_IT_ACCEPT_AUTHORISATION";

const CALLERS: [(&str, &str); 8] = [
    ("anonymous", "sends no credentials"),
    ("stranger", "is signed in; no rule names her"),
    ("reader", "may read by the rules"),
    ("publisher", "may read, publish and unpublish by the rules"),
    ("owner", "the same, and the package is hers"),
    ("admin", "is in `RUSTACCIO_ADMIN_USERS`; no rule names her"),
    ("read-only", "the owner's token that is for reading only"),
    (
        "elsewhere",
        "the owner's token, used from outside of its networks",
    ),
];

fn variables() -> Vec<(&'static str, String)> {
    vec![
        ("RUSTACCIO_ADMIN_USERS", "admin".to_owned()),
        (
            "RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED",
            "false".to_owned(),
        ),
        ("RUSTACCIO_WEB_LOGIN", "true".to_owned()),
        ("RUSTACCIO_METRICS_BACKEND", "prometheus".to_owned()),
    ]
}

async fn start(decider: &Decider, folder: Option<TempDir>) -> Registry {
    let mut variables = variables();
    variables.extend(decider.variables());
    Registry::with(Start {
        variables,
        file: decider.file(),
        hook: decider.hook(),
        folder,
        ..Start::default()
    })
    .await
}

/// A folder to begin with, the tokens of all callers, and whoever decides.
struct Scene {
    folder: TempDir,
    callers: Vec<Option<User>>,
    decider: Decider,
}

impl Scene {
    /// `@acme/app` is hidden by whoever `decides`, `@team/app` by what it says itself.
    async fn new(decides: Decides) -> Self {
        let decider = Decider::start(decides).await;
        let registry = start(&decider, None).await;
        let mut callers = vec![None];
        for name in ["stranger", "reader", "publisher", "owner", "admin"] {
            callers.push(Some(registry.user(name).await));
        }
        registry.user("member").await;
        let (owner, admin) = (callers[4].clone().unwrap(), callers[5].clone().unwrap());
        let token = async |wish| {
            let made = registry.send_json(Some(&owner), Method::POST, "/-/npm/v1/tokens", &wish);
            let made = made.await.assert(200);
            User {
                token: made.json()["token"].as_str().unwrap().to_owned(),
            }
        };
        callers.push(Some(
            token(json!({ "password": "password", "readonly": true })).await,
        ));
        callers.push(Some(
            token(json!({ "password": "password", "cidr_whitelist": ["192.0.2.0/24"] })).await,
        ));
        let member = json!({ "user": "member", "role": "developer" });
        let organisation = "/-/org/acme/user";
        registry
            .put(&admin, organisation, &member)
            .await
            .assert(200);
        let team = json!({ "name": "dev" });
        registry.put(&admin, "/-/org/acme/team", &team).await;
        for name in ["@acme/app", "@team/app"] {
            let package = Package::new(name, "1.0.0");
            registry.publish(&owner, &package).await.assert(201);
            let path = name.replace('/', "%2f");
            registry
                .put(
                    &owner,
                    &format!("/-/package/{path}/dist-tags/beta"),
                    &json!("1.0.0"),
                )
                .await
                .assert(201);
            let star = format!("/-/user/package/{path}/star");
            registry.put(&owner, &star, &json!({})).await;
        }
        // Restricted, and granted to a team: for its members and its owner.
        let restricted = json!({ "access": "restricted" });
        let path = "/-/package/@team%2fapp/access";
        let done = registry.send_json(Some(&owner), Method::POST, path, &restricted);
        done.await.assert(200);
        let grant = json!({ "package": "@team/app", "permissions": "read-write" });
        let path = "/-/team/acme/dev/package";
        registry.put(&owner, path, &grant).await.assert(200);
        Self {
            folder: registry.stop().await,
            callers,
            decider,
        }
    }

    /// A registry where nobody has changed anything yet.
    async fn fresh(&self) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        start(&self.decider, Some(folder)).await
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Whether something may have changed. Pages lead on to another.
fn is_done(answer: &Answer) -> bool {
    answer.status.is_success() || answer.status.is_redirection()
}

async fn ask(
    registry: &Registry,
    row: &Row,
    caller: Option<&User>,
    scope: &str,
    name: &str,
) -> Answer {
    let method = if row.method == "ANY" {
        "GET"
    } else {
        row.method
    };
    let method: Method = method.parse().unwrap();
    let path = row.path_of(scope, name);
    if method == Method::GET {
        return match caller {
            Some(user) => registry.get_as(user, &path).await,
            None => registry.get(&path).await,
        };
    }
    if let Some(form) = row.form() {
        let mut request = registry
            .request(method, &path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        if let Some(user) = caller {
            request = request.bearer_auth(&user.token);
        }
        return registry.send(request).await;
    }
    let body = row.body_of(scope, name);
    registry.send_json(caller, method, &path, &body).await
}

#[test]
fn every_route_is_in_the_table() {
    let rows: BTreeSet<(String, String)> = ROWS
        .iter()
        .map(|row| (row.method.to_owned(), row.route.to_owned()))
        .collect();
    let routes = routes();
    let missing: Vec<_> = routes.difference(&rows).collect();
    assert!(missing.is_empty(), "add rows to requests.rs: {missing:?}");
    let gone: Vec<_> = rows.difference(&routes).collect();
    assert!(gone.is_empty(), "no such routes any more: {gone:?}");
    assert_eq!(rows.len(), ROWS.len(), "a route has two rows");
}

/// The table as it is where somebody `decides`.
async fn table(decides: Decides) -> String {
    let scene = Scene::new(decides).await;
    let mut text = String::from(
        "# Who may do what\n\n\
         Made by the test `authorisation::the_table_of_who_may_do_what_is_current`, which asks each \
         route as each caller; run it with `RUSTACCIO_IT_ACCEPT_AUTHORISATION=1` to take a change. The \
         package is one whose rule names readers and publishers; owners are checked, and registration \
         is open. What stands for a status: 2xx, it was done; 401, sign in; 403, not you; 404, not \
         there, or not for you to know.\n\n",
    );
    for (caller, who) in CALLERS {
        writeln!(text, "- **{caller}** {who}").unwrap();
    }
    let names = CALLERS.map(|(caller, _)| caller).join(" | ");
    writeln!(
        text,
        "\n| route | {names} |\n|---|{}",
        "---|".repeat(CALLERS.len())
    )
    .unwrap();
    let mut registry = scene.fresh().await;
    for row in ROWS {
        write!(text, "| {} `{}` |", row.method, row.route).unwrap();
        for caller in &scene.callers {
            let answer = ask(&registry, row, caller.as_ref(), "@acme", "app").await;
            write!(text, " {} |", answer.status.as_u16()).unwrap();
            if row.method != "GET" && is_done(&answer) {
                registry = scene.fresh().await;
            }
        }
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn the_table_of_who_may_do_what_is_current() {
    let text = table(Decides::Rules).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/authorisation.md");
    if std::env::var_os(ACCEPT).is_some() {
        fs::write(&file, &text).unwrap();
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        known == text,
        "docs/authorisation.md has drifted; look at the difference, then run with {ACCEPT}=1:\n{text}"
    );
}

#[tokio::test]
async fn a_service_that_says_what_the_rules_say_makes_the_same_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/authorisation.md");
    let by_rules = fs::read_to_string(file).unwrap();
    let by_service = table(Decides::Service).await;
    let pairs = by_service.lines().zip(by_rules.lines());
    let others: Vec<_> = pairs.filter(|(one, other)| one != other).collect();
    assert!(
        others.is_empty(),
        "by the service, by the rules: {others:#?}"
    );
    assert_eq!(by_service, by_rules);
}

/// Status, headers and body, without what differs anyway.
fn told(answer: &Answer, scope: &str, name: &str) -> String {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id" | "content-length"))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
        .collect();
    headers.sort();
    let body = String::from_utf8_lossy(&answer.body);
    let text = format!("{} {headers:?} {body}", answer.status);
    let whole = format!("{scope}/{name}");
    // Pages say where they are, and links lead back to them.
    let spelt = |slash: &str| whole.replace('/', slash);
    let in_link = |slash: &str| spelt(slash).replace('@', "%40");
    let spellings = [
        whole.clone(),
        spelt("%2f"),
        spelt("%2F"),
        in_link("%2F"),
        in_link("%252F"),
        in_link("%252f"),
    ];
    let text = spellings
        .iter()
        .fold(text, |text, name| text.replace(name, "PACKAGE"));
    text.replace(&format!("{name}-1.0.0"), "PACKAGE-1.0.0")
}

#[tokio::test]
async fn a_hidden_package_and_a_missing_one_sound_alike_on_every_route() {
    sound_alike(Decides::Rules).await;
}

#[tokio::test]
async fn what_a_service_hides_and_a_missing_package_sound_alike_on_every_route() {
    sound_alike(Decides::ServiceAboutMany).await;
}

#[tokio::test]
async fn what_a_hook_hides_and_a_missing_package_sound_alike_on_every_route() {
    sound_alike(Decides::Hook).await;
}

async fn sound_alike(decides: Decides) {
    let scene = Scene::new(decides).await;
    let mut registry = scene.fresh().await;
    let mut leaks = Vec::new();
    // By what is decided, strangers and administrators may not see it; what it says itself hides it from
    // readers and publishers too, and from whoever is signed in with a token that does not count.
    for (scope, blind) in [
        (
            "@acme",
            &["anonymous", "stranger", "admin", "elsewhere"][..],
        ),
        (
            "@team",
            &[
                "anonymous",
                "stranger",
                "reader",
                "publisher",
                "admin",
                "elsewhere",
            ],
        ),
    ] {
        for row in ROWS.iter().filter(|row| row.names_a_package()) {
            for ((caller, _), user) in CALLERS.iter().zip(&scene.callers) {
                if !blind.contains(caller) {
                    continue;
                }
                let hidden = ask(&registry, row, user.as_ref(), scope, "app").await;
                if row.method != "GET" && is_done(&hidden) {
                    registry = scene.fresh().await;
                }
                let missing = ask(&registry, row, user.as_ref(), scope, "gone").await;
                if row.method != "GET" && is_done(&missing) {
                    registry = scene.fresh().await;
                }
                // Administrators are told what they forget; whoever may publish a name learns
                // whether it is free.
                let is_known = (*caller == "admin" && row.route.starts_with("/-/admin/"))
                    || (row.route == "/{package}" && missing.status == 201);
                let (hidden, missing) =
                    (told(&hidden, scope, "app"), told(&missing, scope, "gone"));
                if hidden != missing && !is_known {
                    leaks.push(format!(
                        "{caller}: {} {} of {scope}:\n  hidden  {hidden}\n  missing {missing}",
                        row.method, row.route
                    ));
                }
            }
        }
    }
    assert!(leaks.is_empty(), "\n{}", leaks.join("\n"));
    // A document that means nothing is no way to find out.
    let stranger = scene.callers[1].as_ref();
    for body in [json!({}), json!({ "versions": 7 })] {
        let told = async |name: &str| {
            let path = format!("/@team%2f{name}/-rev/1");
            let answer = registry.send_json(stranger, Method::PUT, &path, &body);
            told(&answer.await, "@team", name)
        };
        assert_eq!(told("app").await, told("gone").await, "{body}");
    }
}

#[tokio::test]
async fn no_list_names_what_its_reader_may_not_see() {
    lists_keep_to_themselves(Decides::Rules).await;
}

#[tokio::test]
async fn no_list_names_what_a_service_hides() {
    lists_keep_to_themselves(Decides::Service).await;
}

#[tokio::test]
async fn no_list_names_what_a_service_hides_with_many_others() {
    lists_keep_to_themselves(Decides::ServiceAboutMany).await;
}

#[tokio::test]
async fn no_list_names_what_a_hook_hides() {
    lists_keep_to_themselves(Decides::Hook).await;
}

async fn lists_keep_to_themselves(decides: Decides) {
    let scene = Scene::new(decides).await;
    let registry = scene.fresh().await;
    let lists = ROWS
        .iter()
        .filter(|row| row.method == "GET" && !row.names_a_package());
    let mut leaks = Vec::new();
    let mut seen = 0;
    for row in lists {
        for ((caller, _), user) in CALLERS.iter().zip(&scene.callers) {
            let answer = ask(&registry, row, user.as_ref(), "", "").await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let sees_acme = matches!(*caller, "reader" | "publisher" | "owner" | "read-only");
            let sees_team = matches!(*caller, "owner" | "read-only");
            for (name, sees) in [("@acme/app", sees_acme), ("@team/app", sees_team)] {
                let is_told = text.contains(name);
                seen += usize::from(is_told);
                if is_told && !sees {
                    let what = format!("{decides:?}, {caller}: {}", row.route);
                    leaks.push(format!("{what} tells of {name}: {text}"));
                }
            }
        }
    }
    assert!(leaks.is_empty(), "\n{}", leaks.join("\n"));
    assert!(seen > 20, "{decides:?}: the lists are empty: {seen}");
}
