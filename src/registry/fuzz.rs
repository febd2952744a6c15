//! Ways for fuzzers into the parsers of the registry. No part of the interface.

use std::collections::HashSet;

use sha2::Digest as _;

use super::{attestations::Provenance, audit_question::Node};
use crate::models::{Algorithm, Digest, PackageName};

/// Reads a tree that is to be audited, and what an uplink may see of it that knows every other
/// name. That is a tree again.
pub fn audit_tree(json: &[u8]) {
    let Ok(tree) = Node::parse(json) else {
        return;
    };
    let Ok(names) = tree.names() else {
        return;
    };
    let public: HashSet<PackageName> = names.into_iter().step_by(2).collect();
    if let Some((shown, hidden)) = tree.about(&public) {
        assert!(Node::parse(shown.as_bytes()).is_ok());
        if let Ok(mut shown) = serde_json::from_str(&shown) {
            hidden.reveal_in(&mut shown);
        }
    }
}

/// Reads the bundle that came with a tarball; one that is about it can be served.
pub fn provenance(bundle: &str) {
    let (Ok(name), Ok(version)) = ("@s/n".parse(), "1.0.0".parse()) else {
        return;
    };
    let digest = Digest {
        algorithm: Algorithm::Sha512,
        bytes: sha2::Sha512::digest(b"").to_vec(),
    };
    if Provenance::parse(bundle.to_owned(), &name, &version, &digest).is_ok() {
        assert!(Provenance::document(bundle).is_ok());
    }
}
