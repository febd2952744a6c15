//! What goes with a runtime profile, and what a profile turns on.

use super::{load, preset, problems_of};

#[test]
fn profiles_say_all_that_does_not_go_together() {
    const PROFILE: &str = "RUSTACCIO_RUNTIME_PROFILE";
    let said = |pairs: &[(&str, &str)]| load(pairs).describe_problems();
    // None was asked for, or nothing speaks against it.
    for fine in ["", "local"] {
        assert_eq!(said(&[(PROFILE, fine)]), "");
    }
    assert_eq!(problems_of(&preset(".env.local.example")), "");
    let local = said(&[
        (PROFILE, "local"),
        ("RUSTACCIO_STATE_COORDINATION_BACKEND", "redis"),
        ("RUSTACCIO_MANAGED_MODE", "true"),
    ]);
    for line in [
        "RUSTACCIO_STATE_COORDINATION_BACKEND = `redis`: RUSTACCIO_RUNTIME_PROFILE=local requires \
         RUSTACCIO_STATE_COORDINATION_BACKEND=none",
        "RUSTACCIO_MANAGED_MODE = `true`: RUSTACCIO_RUNTIME_PROFILE=local requires \
         RUSTACCIO_MANAGED_MODE=false",
    ] {
        assert!(local.contains(line), "{local}");
    }
    let s3 = said(&[(PROFILE, "s3")]);
    assert!(
        s3.contains("RUSTACCIO_TARBALL_BACKEND = `local`: RUSTACCIO_RUNTIME_PROFILE=s3 requires RUSTACCIO_TARBALL_BACKEND=s3"),
        "{s3}"
    );
    let other = said(&[(PROFILE, "cluster")]);
    assert!(
        other.contains("must be one of `local`, `s3`, `managed`"),
        "{other}"
    );
}

#[test]
fn managed_mode_compares_revisions_unless_told_otherwise() {
    const STRICT: &str = "RUSTACCIO_STRICT_REVISION_CHECK";
    const MANAGED: &str = "RUSTACCIO_MANAGED_MODE";
    let is_strict = |pairs: &[(&str, &str)]| load(pairs).publish.strict_revision_check;
    assert!(!is_strict(&[]));
    assert!(is_strict(&[(MANAGED, "true")]));
    assert!(!is_strict(&[(MANAGED, "false")]));
    // The profile alone does not.
    assert!(!is_strict(&[("RUSTACCIO_RUNTIME_PROFILE", "managed")]));
    assert!(!is_strict(&[(MANAGED, "true"), (STRICT, "false")]));
    assert!(!is_strict(&[(STRICT, "false"), (MANAGED, "true")]));
    assert!(is_strict(&[(MANAGED, "false"), (STRICT, "true")]));
}

#[test]
fn the_managed_profile_is_checked_and_does_not_start_yet() {
    let wanted = [
        "requires RUSTACCIO_RATE_LIMIT_BACKEND=redis",
        "requires RUSTACCIO_QUOTA_BACKEND=postgres",
        "requires RUSTACCIO_STATE_COORDINATION_BACKEND=redis or s3",
        "requires RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED=false",
        "requires RUSTACCIO_ADMIN_USERS or RUSTACCIO_ADMIN_GROUPS",
        "requires auth.plugin.externalMode=true",
        "requires RUSTACCIO_AUTH_BACKEND=http",
        "requires RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT",
    ];
    let refusal = "cannot be run by this version";
    for asked in [
        ("RUSTACCIO_RUNTIME_PROFILE", "managed"),
        ("RUSTACCIO_MANAGED_MODE", "yes"),
    ] {
        let said = load(&[asked]).describe_problems();
        for line in wanted.iter().chain([&refusal]) {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
    // Nothing is wrong with the preset but what this version does not have.
    let said = problems_of(&preset(".env.managed.example"));
    for line in wanted {
        assert!(!said.contains(line), "{line}: {said}");
    }
    assert!(said.contains(refusal), "{said}");
}
