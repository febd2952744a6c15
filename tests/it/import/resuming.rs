//! An import that is killed goes on where it was, however large it is.

use std::time::Instant;

use serde_json::json;

use super::{Here, contents, get_json, tarballs_asked};
use crate::support::{Package, Upstream};

/// A source of many small packages.
async fn forest(count: usize) -> Upstream {
    let upstream = Upstream::start().await;
    let mut list = Vec::new();
    for number in 0..count {
        let name = match number % 3 {
            0 => format!("@forest/tree-{number}"),
            _ => format!("tree-{number}"),
        };
        upstream.has(&[&Package::new(&name, "1.0.0")]);
        list.push(json!({ "name": name }));
    }
    upstream.answers("/-/verdaccio/data/packages", &json!(list));
    upstream
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_packages_come_over() {
    const COUNT: usize = 2000;
    let upstream = forest(COUNT).await;
    let here = Here::new();
    let began = Instant::now();
    let said = here.import(&upstream.url, &["--json"]).await.fine();
    println!("{COUNT} packages took {:?}", began.elapsed());
    assert_eq!(said.json()["changed"], COUNT);
    assert_eq!(tarballs_asked(&upstream), COUNT);
    let before = contents(&here.data());
    let began = Instant::now();
    let said = here.import(&upstream.url, &["--json"]).await.fine();
    println!("the second run took {:?}", began.elapsed());
    assert_eq!(said.json()["unchanged"], COUNT);
    assert_eq!(tarballs_asked(&upstream), COUNT);
    assert!(
        contents(&here.data()) == before,
        "the second run changed something"
    );
    let registry = here.serve();
    let all = get_json(&format!("{}/-/all", registry.url)).await;
    assert_eq!(all.as_object().unwrap().len(), COUNT);
    registry.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_goes_on() {
    const COUNT: usize = 300;
    let upstream = forest(COUNT).await;
    let here = Here::new();
    let mut kills = 0;
    for enough in [20, 80, 150, 250] {
        let mut command = here.command();
        command.args(["import", &upstream.url]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        while tarballs_asked(&upstream) < enough && child.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
    }
    assert!(kills > 0);
    here.import(&upstream.url, &[]).await.fine();
    // Only what was under way is asked for again.
    let asked = tarballs_asked(&upstream);
    assert!(asked <= COUNT + kills * 8, "{asked}");
    let said = here.run(&["fsck"]).await.fine();
    assert!(
        said.text
            .contains(&format!("{COUNT} packages, {COUNT} tarballs: all fine")),
        "{}",
        said.text
    );
    let before = contents(&here.data());
    here.import(&upstream.url, &[]).await.fine();
    assert!(contents(&here.data()) == before);
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_nothing_is_lost_or_asked_for_twice() {
    use std::os::unix::process::ExitStatusExt as _;

    use crate::crash::{ABORTED, IMPORT_POINTS};

    for point in IMPORT_POINTS {
        let upstream = Upstream::start().await;
        let packages = ["1.0.0", "1.1.0", "1.2.0"].map(|version| Package::new("@s/many", version));
        upstream.has(&[&packages[0], &packages[1], &packages[2]]);
        let here = Here::new();
        let names = here.file("names", "@s/many");
        let mut command = here.command();
        command.args(["import", &upstream.url, "--names", &names, "--jobs", "1"]);
        command.env("RUSTACCIO_CRASH_AT", format!("{point}:1"));
        let died = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert_eq!(died.status.signal(), Some(ABORTED), "{point}");
        // A registry that starts in between takes half of it for nothing.
        let registry = here.serve();
        let (status, _) = super::get(&format!("{}/@s%2fmany", registry.url)).await;
        assert_eq!(status, 404, "{point}");
        registry.stop();
        here.import(&upstream.url, &["--names", &names, "--jobs", "1"])
            .await
            .fine();
        assert_eq!(tarballs_asked(&upstream), 3, "{point}");
        let registry = here.serve();
        let shown = get_json(&format!("{}/@s%2fmany", registry.url)).await;
        assert_eq!(shown["versions"].as_object().unwrap().len(), 3, "{point}");
        assert_eq!(shown["dist-tags"]["latest"], "1.2.0", "{point}");
        registry.stop();
        let said = here.run(&["fsck"]).await.fine();
        assert!(said.text.contains("all fine"), "{}", said.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_something_else_is_replaced() {
    let upstream = Upstream::start().await;
    let package = Package::new("a", "1.0.0");
    upstream.has(&[&package]);
    let here = Here::new();
    let names = here.file("names", "a");
    // An empty manifest, and a tarball that nothing names.
    let folder = here.data().join("tarballs/a");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("package.json"), r#"{"name":"a","versions":{}}"#).unwrap();
    std::fs::write(folder.join("a-1.0.0.tgz"), "rest").unwrap();
    here.import(&upstream.url, &["--names", &names])
        .await
        .fine();
    assert_eq!(
        std::fs::read(folder.join("a-1.0.0.tgz")).unwrap(),
        package.tarball
    );
}
