//! The pages of administrators, and the list of what is in the cache of upstream.

use std::{
    fs::{self, File},
    future::Future,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Answer, Package, Registry, Upstream, User, registry::Start, second_factor::with_second_factor,
    upstream::path_of,
};

const ADMIN: (&str, &str) = ("RUSTACCIO_ADMIN_USERS", "root");
const PAGE: &str = "/-/web/admin";
const REINDEX: &str = "/-/web/admin/reindex";
const REPORT: &str = "/-/web/admin/storage-health";

#[track_caller]
fn text(answer: Answer, status: u16) -> String {
    let answer = answer.assert(status);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    String::from_utf8(answer.body).unwrap()
}

async fn page(registry: &Registry, user: &User) -> String {
    text(registry.get_as(user, PAGE).await, 200)
}

async fn press(registry: &Registry, user: Option<&User>, path: &str) -> Answer {
    let mut request = registry.request(Method::POST, path);
    if let Some(user) = user {
        request = request.bearer_auth(&user.token);
    }
    registry.send(request).await
}

/// What a page has between the heading of a part and the next part.
#[track_caller]
fn part<'p>(page: &'p str, id: &str) -> &'p str {
    let start = page.find(&format!("id=\"{id}\"")).unwrap();
    let rest = &page[start..];
    &rest[..rest.find("</section>").unwrap()]
}

/// Asks again until `is_so`, for what is done behind an answer.
async fn until<F: Future<Output = String>>(
    ask: impl Fn() -> F,
    is_so: impl Fn(&str) -> bool,
) -> String {
    let begun = Instant::now();
    loop {
        let page = ask().await;
        if is_so(&page) {
            return page;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_page_is_for_administrators_and_those_who_look() {
    let registry = Registry::start(&[ADMIN]).await;
    let (root, alice) = (registry.user("root").await, registry.user("alice").await);
    let refused = text(registry.get(PAGE).await, 401);
    assert!(refused.contains("/-/web/login?back="), "{refused}");
    assert!(!refused.contains("id=\"users\""), "{refused}");
    let refused = text(registry.get_as(&alice, PAGE).await, 403);
    assert!(!refused.contains("id=\"users\""), "{refused}");
    assert!(page(&registry, &root).await.contains(REINDEX));
    // The API says the same.
    let health = "/-/admin/storage-health";
    registry.get(health).await.assert(401);
    registry.get_as(&alice, health).await.assert(403);
    let wish = json!({ "password": "password", "readonly": true });
    let made = registry.send_json(Some(&root), Method::POST, "/-/npm/v1/tokens", &wish);
    let watcher = User {
        token: made.await.assert(200).json()["token"]
            .as_str()
            .unwrap()
            .to_owned(),
    };
    let watched = page(&registry, &watcher).await;
    assert!(watched.contains("id=\"users\"") && !watched.contains(REINDEX));
    for path in [REINDEX, REPORT] {
        press(&registry, None, path).await.assert(401);
        press(&registry, Some(&alice), path).await.assert(403);
        press(&registry, Some(&watcher), path).await.assert(403);
    }
    let idle = page(&registry, &root).await;
    assert!(!idle.contains("role=\"status\""), "nothing was begun");
}

#[tokio::test]
async fn a_browser_that_is_signed_in_proves_its_forms() {
    let registry = Registry::start(&[ADMIN]).await;
    registry.user("root").await;
    let form = "username=root&password=password&back=/-/web/admin";
    let request = registry
        .request(Method::POST, "/-/web/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let signed_in = registry.send(request).await.assert(303);
    assert_eq!(signed_in.header("location"), Some(PAGE));
    let cookie = signed_in.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let shown = registry.request(Method::GET, PAGE);
    let shown = registry.send(shown.header("cookie", &cookie)).await;
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let shown = text(shown, 200);
    let (_, proof) = shown.split_once("name=\"proof\" value=\"").unwrap();
    let proof = proof.split('"').next().unwrap();
    let send = async |proof: &str| {
        let request = registry
            .request(Method::POST, REPORT)
            .header("cookie", &cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("proof={proof}"));
        registry.send(request).await
    };
    send("guessed").await.assert(403);
    let begun = send(proof).await.assert(303);
    assert_eq!(begun.header("location"), Some("/-/web/admin#storage"));
}

#[tokio::test]
async fn without_pages_there_are_none_of_these() {
    let registry = Registry::start(&[ADMIN, ("RUSTACCIO_WEB_ENABLE", "false")]).await;
    let root = registry.user("root").await;
    for path in [PAGE, "/-/web/cached"] {
        registry.get_as(&root, path).await.assert(404);
    }
    for path in [REINDEX, REPORT] {
        press(&registry, Some(&root), path).await.assert(404);
    }
}

#[tokio::test]
async fn links_begin_with_the_prefix() {
    let registry = Registry::start(&[ADMIN, ("RUSTACCIO_URL_PREFIX", "/npm/private")]).await;
    let root = registry.user("root").await;
    for path in [PAGE, "/-/web/cached"] {
        let shown = text(registry.get_as(&root, path).await, 200);
        for attribute in ["href=\"", "action=\"", "src=\""] {
            for link in shown.split(attribute).skip(1) {
                let is_ours = link.starts_with("/npm/private/") || link.starts_with('#');
                assert!(is_ours, "{attribute}{}", link.split('"').next().unwrap());
            }
        }
    }
    let begun = press(&registry, Some(&root), REINDEX).await.assert(303);
    let location = begun.header("location");
    assert_eq!(location, Some("/npm/private/-/web/admin#reindex"));
}

#[tokio::test]
async fn uplinks_are_shown_without_their_secrets() {
    let upstream = Upstream::start().await;
    upstream.has(&[&Package::new("lib", "1.0.0")]);
    upstream.fails(&path_of("broken"), 500);
    let address = upstream.url.replace("http://", "http://me:s3cr3t@");
    let file = format!(
        "uplinks:\n  company:\n    url: {address}/\n    max_fails: 1\n    fail_timeout: 10m\n\
         packages:\n  '**':\n    access: $all\n    proxy: company\n"
    );
    let registry = Registry::with(Start {
        variables: vec![(ADMIN.0, ADMIN.1.to_owned())],
        file: &file,
        ..Start::default()
    })
    .await;
    let root = registry.user("root").await;
    let never = page(&registry, &root).await;
    assert_eq!(part(&never, "uplinks").matches("none yet").count(), 2);
    registry.get("/lib").await.assert(200);
    let used = page(&registry, &root).await;
    let used = part(&used, "uplinks");
    assert!(
        used.contains("company") && used.contains(&upstream.url),
        "{used}"
    );
    assert!(used.contains(" ms<") && used.contains("in use"), "{used}");
    registry.get("/broken").await.assert(502);
    let failed = page(&registry, &root).await;
    let failed = part(&failed, "uplinks");
    assert!(failed.contains("status 500"), "{failed}");
    assert!(failed.contains("left alone after failures"), "{failed}");
    for shown in [used, failed] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}

#[tokio::test]
async fn the_cache_is_counted_with_its_limits() {
    let upstream = Upstream::start().await;
    let lib = Package::new("lib", "1.0.0");
    upstream.has(&[&lib]);
    let registry = Registry::start(&[
        ADMIN,
        ("RUSTACCIO_UPSTREAM", &upstream.url),
        ("RUSTACCIO_CACHE_MAX_SIZE", "3gb"),
        ("RUSTACCIO_CACHE_MAX_AGE", "30d"),
    ])
    .await;
    let root = registry.user("root").await;
    let empty = page(&registry, &root).await;
    let empty = part(&empty, "cache");
    assert!(
        empty.contains("3.2 GB") && empty.contains("30 d"),
        "{empty}"
    );
    assert!(empty.contains("0 files, 0 B"), "{empty}");
    registry.tarball(&lib).await.assert(200);
    // A document and a tarball are kept, behind whoever has asked for them.
    let counted = until(
        || page(&registry, &root),
        |page| part(page, "cache").contains("<dd>2 files"),
    );
    let counted = counted.await;
    assert!(part(&counted, "cache").contains("<bdi>default</bdi>"));
    // Each part fails for itself.
    let packages = registry.data().join("cache/packages");
    fs::remove_dir_all(&packages).unwrap();
    fs::write(&packages, "no folder").unwrap();
    let failed = until(
        || page(&registry, &root),
        |page| part(page, "cache").contains("cannot be shown"),
    );
    let failed = failed.await;
    assert!(part(&failed, "cache").contains("3.2 GB"));
    assert!(part(&failed, "users").contains("root"));
}

#[tokio::test]
async fn users_are_listed_without_what_is_their_own() {
    let registry = Registry::start(&[ADMIN]).await;
    let root = registry.user("root").await;
    for name in ["alice", "bob"] {
        registry.user(name).await;
    }
    let variables = vec![(ADMIN.0, ADMIN.1.to_owned())];
    let registry = with_second_factor(registry, variables, "bob", "auth-only", &["1"]).await;
    let shown = page(&registry, &root).await;
    let users = part(&shown, "users");
    for (name, has_one) in [("alice", "no"), ("bob", "yes"), ("root", "no")] {
        let (_, row) = users.split_once(&format!("<bdi>{name}</bdi>")).unwrap();
        let row = row.split("</tr>").next().unwrap();
        assert!(
            row.contains(&format!("<td>{has_one}</td>")),
            "{name}: {row}"
        );
    }
    assert!(!shown.contains("x@example.com"), "addresses are their own");
    let rest = registry.get_as(&root, "/-/web/admin?users=bob").await;
    let rest = text(rest, 200);
    let users = part(&rest, "users");
    assert!(users.contains("<bdi>root</bdi>") && !users.contains("<bdi>bob</bdi>"));
}

/// A registry with a trail of audit.
async fn recording() -> (TempDir, PathBuf, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let file = path.display().to_string();
    let registry = Registry::start(&[ADMIN, ("RUSTACCIO_AUDIT_LOG_FILE", &file)]).await;
    (folder, path, registry)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn the_end_of_the_trail_is_shown_as_text() {
    let silent = Registry::start(&[ADMIN]).await;
    let root = silent.user("root").await;
    let shown = page(&silent, &root).await;
    assert!(part(&shown, "trail").contains("RUSTACCIO_AUDIT_LOG_FILE"));

    let (_folder, path, registry) = recording().await;
    let root = registry.user("root").await;
    let hostile = "/-/package/%3Cscript%3Ealert(1)%3C%2Fscript%3E/dist-tags/x";
    registry.delete(&root, hostile).await.assert(400);
    let shown = page(&registry, &root).await;
    let trail = part(&shown, "trail");
    assert!(trail.contains("dist_tag.remove"), "{trail}");
    assert!(trail.contains("&#60;script&#62;alert(1)"), "{trail}");
    assert!(!shown.contains("<script>"), "{shown}");
    // Whatever somebody else has put there.
    let mut text = fs::read_to_string(&path).unwrap();
    for number in 0..60 {
        text.push_str(&format!("{{\"action\":\"older-{number:02}\"}}\n"));
    }
    text.push_str("<img src=x onerror=alert(2)>\n{\"user\":\"\u{202e}evil\",\"package\":[1]}\n");
    fs::write(&path, text).unwrap();
    let shown = page(&registry, &root).await;
    let trail = part(&shown, "trail");
    assert!(trail.contains("&#60;img src=x"), "{trail}");
    assert!(trail.contains("<bdi>evil</bdi>"), "{trail}");
    let newest = trail.find("older-59").unwrap();
    assert!(newest < trail.find("older-58").unwrap(), "the newest first");
    assert_eq!(trail.matches("<tr>").count(), 1 + 50, "{trail}");
    // What cannot be read says so, and the rest of the page is there.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let shown = page(&registry, &root).await;
    assert!(part(&shown, "trail").contains("cannot be shown"));
    assert!(part(&shown, "users").contains("root"));
}

/// A manifest that nobody can read before it is let go.
struct Stuck {
    end: PathBuf,
    manifest: PathBuf,
}

impl Stuck {
    fn at(registry: &Registry, name: &str) -> Self {
        let folder = registry.data().join("tarballs").join(name);
        let manifest = folder.join("package.json");
        let end = registry.folder().join("pipe");
        let made = Command::new("mkfifo").arg(&end).status().unwrap();
        assert!(made.success());
        fs::rename(&manifest, folder.join("package.json.whole")).unwrap();
        fs::hard_link(&end, &manifest).unwrap();
        Self { end, manifest }
    }

    /// Whoever waits for it reads nothing; the manifest is whole again after that.
    async fn let_go(self) {
        fs::rename(self.manifest.with_extension("json.whole"), &self.manifest).unwrap();
        let open = move || File::options().write(true).open(self.end).unwrap();
        drop(tokio::task::spawn_blocking(open).await.unwrap());
    }
}

#[tokio::test]
async fn reindexing_runs_once_and_shows_how_it_ends() {
    let (_folder, path, registry) = recording().await;
    let root = registry.user("root").await;
    for name in ["app", "hurt", "lost"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&root, &package).await.assert(201);
    }
    let tarballs = registry.data().join("tarballs");
    fs::remove_file(tarballs.join("lost/package.json")).unwrap();
    fs::write(tarballs.join("hurt/package.json"), "{ half").unwrap();
    let stuck = Stuck::at(&registry, "app");
    let before = lines(&path).len();
    let begun = press(&registry, Some(&root), REINDEX).await.assert(303);
    assert_eq!(begun.header("location"), Some("/-/web/admin#reindex"));
    let running = until(
        || page(&registry, &root),
        |page| part(page, "reindex").contains("looked at: 2 / 3"),
    );
    let running = running.await;
    let running = part(&running, "reindex");
    assert!(running.contains("Under way") && running.contains("Problems: 1"));
    assert!(running.contains("max=\"3\" value=\"2\""), "{running}");
    assert!(!running.contains("<form"), "{running}");
    assert!(running.contains("href=\"/-/web/admin?again="), "{running}");
    // Neither here nor by the API is there another one meanwhile.
    let again = text(press(&registry, Some(&root), REINDEX).await, 409);
    assert!(again.contains("role=\"alert\"") && again.contains("Under way"));
    let api = press(&registry, Some(&root), "/-/admin/reindex").await;
    api.assert(409);
    stuck.let_go().await;
    let done = until(
        || page(&registry, &root),
        |page| !part(page, "reindex").contains("Under way"),
    );
    let done = done.await;
    let done = part(&done, "reindex");
    for said in [
        "role=\"status\">Done",
        "<dt>Packages now</dt><dd>2</dd>",
        "<dt>Manifests rebuilt</dt><dd>1</dd>",
        "<dt>Manifests that cannot be read</dt><dd>1</dd>",
        "<form",
    ] {
        assert!(done.contains(said), "{said}: {done}");
    }
    registry.get("/lost").await.assert(200);
    let lines = lines(&path);
    let own: Vec<&Value> = lines[before..]
        .iter()
        .filter(|line| line["action"] == "admin.reindex")
        .collect();
    let outcomes: Vec<(&Value, &Value)> = own
        .iter()
        .map(|line| (&line["status"], &line["user"]))
        .collect();
    let by_root = json!("root");
    assert_eq!(
        outcomes,
        [
            (&json!(303), &by_root),
            (&json!(409), &by_root),
            (&json!(409), &by_root),
            // Its end.
            (&Value::Null, &by_root),
        ]
    );
    assert_eq!(own[3]["events"][0]["type"], "admin.reindex");
    assert_eq!(own[3]["events"][0]["attributes"]["packagesAfter"], 2);
}

#[tokio::test]
async fn what_an_administrator_began_by_the_api_is_shown_too() {
    let registry = Registry::start(&[ADMIN]).await;
    let root = registry.user("root").await;
    let package = Package::new("app", "1.0.0");
    registry.publish(&root, &package).await.assert(201);
    press(&registry, Some(&root), "/-/admin/reindex")
        .await
        .assert(200);
    let shown = page(&registry, &root).await;
    let shown = part(&shown, "reindex");
    assert!(shown.contains("<dt>Packages now</dt><dd>1</dd>"), "{shown}");
}

#[tokio::test]
async fn the_report_on_storage_names_what_does_not_fit() {
    let (_folder, path, registry) = recording().await;
    let root = registry.user("root").await;
    for name in ["whole", "hurt"] {
        let package = Package::new(name, "1.0.0");
        registry.publish(&root, &package).await.assert(201);
    }
    let tarballs = registry.data().join("tarballs");
    fs::remove_file(tarballs.join("hurt/hurt-1.0.0.tgz")).unwrap();
    for number in 100..130 {
        fs::write(tarballs.join(format!("whole/whole-{number}.0.0.tgz")), "x").unwrap();
    }
    let report = async || {
        press(&registry, Some(&root), REPORT).await.assert(303);
        let done = until(
            || page(&registry, &root),
            |page| !part(page, "storage").contains("Under way"),
        );
        part(&done.await, "storage").to_owned()
    };
    let done = report().await;
    for said in [
        "Storage answers.",
        "<dt>Tarballs</dt><dd>31</dd>",
        "Tarballs that are missing <small>1</small>",
        "hurt/-/hurt-1.0.0.tgz",
        "Tarballs that no version names <small>30</small>",
        "whole/-/whole-119.0.0.tgz",
        "<li>+10</li>",
    ] {
        assert!(done.contains(said), "{said}: {done}");
    }
    let line = lines(&path).pop().unwrap();
    assert_eq!(line["action"], "admin.storage_health.read");
    assert_eq!(line["events"][0]["type"], "admin.storage_health.read");
    // Storage that fails is no empty storage, and no broken page.
    let temporary = registry.data().join("tmp");
    fs::remove_dir_all(&temporary).unwrap();
    fs::write(&temporary, "no folder").unwrap();
    let failed = report().await;
    assert!(!failed.contains("Storage answers."), "{failed}");
    assert!(failed.contains("cannot be shown"), "{failed}");
    assert!(failed.contains("role=\"status\">Failed"), "{failed}");
    assert!(part(&page(&registry, &root).await, "users").contains("root"));
}

async fn cached(registry: &Registry, user: Option<&User>, query: &str) -> String {
    let path = format!("/-/web/cached{query}");
    let answer = match user {
        Some(user) => registry.get_as(user, &path).await,
        None => registry.get(&path).await,
    };
    text(answer, 200)
}

/// The names in the list, in their order.
fn names(page: &str) -> Vec<&str> {
    let rows = page.split("<th scope=\"row\" class=\"text\">").skip(1);
    rows.map(|row| {
        let (_, name) = row.split_once("<bdi>").unwrap();
        name.split('<').next().unwrap()
    })
    .collect()
}

const HIDING: &str = "
packages:
  '@secret/*':
    access: alice
    proxy: company
  '@own/*':
    access: $all
    publish: $authenticated
  '**':
    access: $all
    publish: $authenticated
    proxy: company
";

#[tokio::test]
async fn only_those_who_may_read_a_cached_package_hear_of_it() {
    let upstream = Upstream::start().await;
    for name in ["lib", "@secret/plan", "@team/app"] {
        upstream.has(&[&Package::new(name, "1.0.0")]);
    }
    let file = format!("uplinks:\n  company:\n    url: {}/\n{HIDING}", upstream.url);
    let registry = Registry::with(Start {
        variables: vec![(ADMIN.0, ADMIN.1.to_owned())],
        file: &file,
        ..Start::default()
    })
    .await;
    let (alice, root) = (registry.user("alice").await, registry.user("root").await);
    let nothing = cached(&registry, Some(&alice), "").await;
    assert!(nothing.contains("Nothing from upstream"), "{nothing}");
    for name in ["/lib", "/@secret%2fplan", "/@team%2fapp"] {
        registry.get_as(&alice, name).await.assert(200);
    }
    // A name of which no uplink is asked here may have been left there.
    let left = registry.data().join("cache/packages/@own__tool");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("company.json"), "{}").unwrap();
    let all = until(
        || cached(&registry, Some(&alice), ""),
        |page| names(page).len() == 3,
    );
    let all = all.await;
    for said in ["@secret/plan", "<bdi>company</bdi>", "datetime="] {
        assert!(all.contains(said), "{said}: {all}");
    }
    for user in [None, Some(&root)] {
        let seen = cached(&registry, user, "").await;
        assert!(!seen.contains("@secret"), "{seen}");
        assert_eq!(names(&seen).len(), 2, "{seen}");
    }
    // An override that is restricted is for those who are signed in.
    let own = Package::new("@team/app", "2.0.0");
    registry.publish(&alice, &own).await.assert(201);
    let restricted = json!({ "access": "restricted" });
    let path = "/-/package/@team%2fapp/access";
    let done = registry.send_json(Some(&alice), Method::POST, path, &restricted);
    done.await.assert(200);
    assert_eq!(names(&cached(&registry, None, "").await), ["lib"]);
    assert_eq!(names(&cached(&registry, Some(&root), "").await).len(), 2);
    assert_eq!(names(&cached(&registry, Some(&alice), "").await).len(), 3);
}

#[tokio::test]
async fn the_list_is_paged_and_the_newest_comes_first() {
    let registry = Registry::start(&[("RUSTACCIO_UPSTREAM", "http://127.0.0.1:9/")]).await;
    let packages = registry.data().join("cache/packages");
    let now = SystemTime::now();
    for number in 0..120_u64 {
        let folder = packages.join(format!("@s__p{number:03}"));
        fs::create_dir_all(&folder).unwrap();
        for file in ["default.json", "sha1-00.tgz"] {
            let file = File::create(folder.join(file)).unwrap();
            // Two were used in each moment.
            let used = now - Duration::from_secs(number / 2);
            file.set_modified(used).unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut query = String::new();
    loop {
        let page = cached(&registry, None, &query).await;
        let shown: Vec<String> = names(&page).into_iter().map(str::to_owned).collect();
        assert!(shown.len() <= 50);
        seen.extend(shown);
        let Some((_, more)) = page.split_once("rel=\"next\" href=\"/-/web/cached") else {
            break;
        };
        query = more.split('"').next().unwrap().to_owned();
    }
    let expected: Vec<String> = (0..120).map(|number| format!("@s/p{number:03}")).collect();
    assert_eq!(seen, expected);
    for nonsense in ["?behind=", "?behind=x.y", "?behind=1.../x"] {
        let path = format!("/-/web/cached{nonsense}");
        text(registry.get(&path).await, 400);
    }
}
