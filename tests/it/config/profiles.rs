//! What goes with a runtime profile.

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
