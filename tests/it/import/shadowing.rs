//! `rustaccio shadow`: whether two registries answer alike.

use serde_json::json;

use super::Here;
use crate::support::{Package, Registry, User};

async fn source(alice: &str) -> (Registry, User) {
    let file = "packages:\n  '@closed/*':\n    access: $authenticated\n    publish: $authenticated\n  '**':\n    access: $all\n    publish: $authenticated\n";
    let registry = Registry::with_file(file).await;
    let user = registry.user(alice).await;
    (registry, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_answers_alike_and_what_changed_since_is_told() {
    let (theirs, alice) = source("alice").await;
    for (name, version) in [
        ("open", "1.0.0"),
        ("open", "1.1.0"),
        ("@closed/one", "1.0.0"),
    ] {
        theirs
            .publish(&alice, &Package::new(name, version))
            .await
            .assert(201);
    }
    let here = Here::with(&[("RUSTACCIO_IMPORT_TOKEN", &alice.token)]);
    here.import(&theirs.url, &[]).await.fine();
    let data = here.data();
    let config = here.file(
        "config.yaml",
        "packages:\n  '@closed/*':\n    access: $authenticated\n    publish: $authenticated\n  '**':\n    access: $all\n    publish: $authenticated\n",
    );
    let ours = crate::support::process::Process::start(&data, &[("RUSTACCIO_CONFIG", &config)]);
    let client = crate::support::registry::client();
    let body = json!({ "name": "bob", "password": "password" }).to_string();
    let path = format!("{}/-/user/org.couchdb.user:bob", ours.url);
    let made = client.put(path).body(body).send().await.unwrap();
    let made: serde_json::Value = serde_json::from_slice(&made.bytes().await.unwrap()).unwrap();
    let here = Here {
        variables: vec![
            ("RUSTACCIO_IMPORT_TOKEN".to_owned(), alice.token.clone()),
            (
                "RUSTACCIO_SHADOW_TOKEN".to_owned(),
                made["token"].as_str().unwrap().to_owned(),
            ),
        ],
        ..here
    };
    let arguments = ["shadow", &theirs.url, "--with", &ours.url, "--tarballs"];
    let said = here.run(&arguments).await.fine();
    assert!(said.text.contains("compared 2 packages"), "{}", said.text);
    assert!(said.text.contains("both answer alike"), "{}", said.text);

    theirs
        .publish(&alice, &Package::new("open", "2.0.0"))
        .await
        .assert(201);
    theirs
        .publish(&alice, &Package::new("new", "1.0.0"))
        .await
        .assert(201);
    let said = here
        .run(&arguments)
        .await
        .fails("run `rustaccio import` again");
    for line in [
        "versions: ",
        "  open@2.0.0 is only there",
        "  open: latest is 2.0.0 there, 1.1.0 here",
        "  /new: 200 there, 404 here",
    ] {
        assert!(said.text.contains(line), "{line}: {}", said.text);
    }
    let said = here.run(&[&arguments[..], &["--json"]].concat()).await;
    assert_eq!(
        said.json()["differences"]["status"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    ours.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_no_match() {
    let (theirs, alice) = source("alice").await;
    theirs
        .publish(&alice, &Package::new("open", "1.0.0"))
        .await
        .assert(201);
    let here = Here::new();
    let said = here
        .run(&["shadow", &theirs.url, "--with", "http://127.0.0.1:1"])
        .await;
    said.fails("could not be compared: open");
    here.run(&["shadow", "http://127.0.0.1:1"])
        .await
        .fails("the source cannot be used");
}
