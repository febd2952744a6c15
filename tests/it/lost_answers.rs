//! Conditional writes whose answer is lost: what was done is not taken for somebody else's.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    Package, Registry,
    bucket::{Bucket, s3_at, s3_endpoint},
    wire::Line,
};

const LEASES: &[(&str, &str)] = &[
    ("RUSTACCIO_STATE_COORDINATION_BACKEND", "s3"),
    // Whoever took his own lease for another's would wait in vain.
    ("RUSTACCIO_STATE_COORDINATION_LEASE_MS", "300000"),
    ("RUSTACCIO_STATE_COORDINATION_ACQUIRE_TIMEOUT_MS", "10000"),
];

async fn scene(more: &[(&'static str, &str)]) -> (Line, Registry) {
    let line = Line::to(&s3_endpoint()).await;
    let bucket = Bucket::of(s3_at(&line.url)).await;
    let node = bucket.node_with(more).await;
    (line, node)
}

#[tokio::test]
async fn whoever_registers_is_not_told_that_the_name_is_taken() {
    let (line, node) = scene(&[]).await;
    line.lose_answer_to(".rustaccio/accounts/users/alice");
    let alice = node.user("alice").await;
    assert!(line.has_lost_it());
    node.get_as(&alice, "/-/whoami").await.assert(200);
    // Somebody else is.
    let other = node.sign_in("alice", "another password").await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_organisation_is_changed_once() {
    let (line, node) = scene(&[("RUSTACCIO_ADMIN_USERS", "alice")]).await;
    let alice = node.user("alice").await;
    let path = "/-/org/acme/user";
    for (user, role, count) in [("alice", "owner", 1), ("bob", "developer", 2)] {
        node.user(user).await;
        line.lose_answer_to(".rustaccio/accounts/organisations");
        let body = json!({ "user": user, "role": role });
        let added = node.send_json(Some(&alice), Method::PUT, path, &body).await;
        let added = added.assert(200).json();
        assert_eq!(added["org"]["size"], count, "{added}");
        assert!(line.has_lost_it());
    }
    let members = node.get_as(&alice, path).await.assert(200).json();
    assert_eq!(members["alice"], "owner");
    assert_eq!(members["bob"], "developer");
}

#[tokio::test]
async fn a_lease_that_was_taken_is_held() {
    let (line, node) = scene(LEASES).await;
    let alice = node.user("alice").await;
    for version in ["1.0.0", "2.0.0"] {
        line.lose_answer_to("app.lock");
        let package = Package::new("app", version);
        node.publish(&alice, &package).await.assert(201);
        assert!(line.has_lost_it());
    }
}
