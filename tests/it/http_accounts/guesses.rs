//! Who guesses passwords that others keep, or takes a name that is no user's.

use super::*;

#[tokio::test]
async fn wrong_passwords_are_throttled_before_the_service_hears_them() {
    let service = Service::start(company).await;
    let registry = registry(&service, &[("RUSTACCIO_REGISTRATION", "closed")]).await;
    let mut last = 0;
    for _ in 0..8 {
        last = sign_in(&registry, "alice", "guess", "r")
            .await
            .status
            .as_u16();
    }
    assert_eq!(last, 429);
    assert!(service.count("/authenticate") < 8);
}

/// Whatever the service refuses them with, and however many come at once; and where a password is changed.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_throttled_however_they_are_made() {
    for status in [400, 403, 404, 422] {
        let service = Service::start(move |asked: &Asked| match asked.path.as_str() {
            "/authenticate" => Reply::Json(status, json!({ "error": "no" })),
            _ => company(asked),
        });
        let service = service.await;
        let registry = registry(&service, &[("RUSTACCIO_REGISTRATION", "closed")]).await;
        let guesses = (0..20).map(|guess| {
            let (registry, guess) = (&registry, format!("guess-{guess}"));
            async move {
                sign_in(registry, "alice", &guess, "r")
                    .await
                    .status
                    .as_u16()
            }
        });
        let statuses = futures_util::future::join_all(guesses).await;
        assert!(statuses.contains(&429), "{status}: {statuses:?}");
        assert!(service.count("/authenticate") <= 4, "{status}");
    }
    let service = Service::start(company).await;
    let registry = registry(&service, &[]).await;
    let alice = registry.user("alice").await;
    let guesses = (0..20).map(|guess| {
        let change = json!({ "password": { "old": format!("guess-{guess}"), "new": "another" } });
        let (registry, alice) = (&registry, &alice);
        async move {
            let sent = registry.send_json(Some(alice), Method::POST, "/-/npm/v1/user", &change);
            sent.await.status.as_u16()
        }
    });
    let statuses = futures_util::future::join_all(guesses).await;
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(service.count("/change-password") <= 4);
}

/// Fleets show the same password from one address many times at once.
#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_at_once_are_no_guesses() {
    let service = Service::start(company).await;
    let registry = registry(&service, &[]).await;
    registry.user("alice").await;
    let logins = (0..30).map(|_| sign_in(&registry, "alice", "password", "r"));
    for login in futures_util::future::join_all(logins).await {
        login.assert(201);
    }
}

/// Whoever was called like an organisation or a group would have its rights.
#[tokio::test]
async fn no_user_of_the_service_has_the_name_of_a_group() {
    let service = Service::start(|asked: &Asked| match asked.path.as_str() {
        "/authenticate" | "/adduser" => Reply::Json(200, json!({ "ok": true })),
        "/request-auth" => Reply::Json(200, json!({ "username": "@acme", "groups": [] })),
        _ => company(asked),
    });
    let service = service.await;
    let variables = [("RUSTACCIO_ADMIN_GROUPS", "ops"), REQUEST_AUTH];
    let registry = registry(&service, &variables).await;
    for name in ["@acme", "$all", "all", "ops"] {
        let answer = sign_in(&registry, name, "password", "r").await.assert(409);
        assert!(answer.error().contains("is reserved"), "{}", answer.error());
        let whoami = registry.request(Method::GET, "/-/whoami");
        let whoami = registry
            .send(whoami.basic_auth(name, Some("password")))
            .await;
        assert_ne!(whoami.status.as_u16(), 200, "{name}");
    }
    let whoami = registry
        .request(Method::GET, "/-/whoami")
        .bearer_auth("a-token");
    registry.send(whoami).await.assert(401);
}

/// Who is in a group has its rights, also where she has no other name.
#[tokio::test]
async fn a_group_alone_is_a_name() {
    let service = Service::start(|asked: &Asked| match asked.path.as_str() {
        "/request-auth" if asked.json()["token"] == "large" => {
            let groups: Vec<String> = (0..2000).map(|group| format!("{group:0>50}")).collect();
            Reply::Json(200, json!({ "username": "bob", "groups": groups }))
        }
        "/request-auth" => Reply::Json(200, json!({ "group": "@acme" })),
        _ => company(asked),
    });
    let service = service.await;
    let registry = registry(&service, &[REQUEST_AUTH]).await;
    let whoami = async |token: &str| {
        let request = registry
            .request(Method::GET, "/-/whoami")
            .bearer_auth(token);
        registry.send(request).await
    };
    assert_eq!(
        whoami("a-token").await.assert(200).json()["username"],
        "@acme"
    );
    // More groups than anybody has are no answer.
    whoami("large").await.assert(502);
}
