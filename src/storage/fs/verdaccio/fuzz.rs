//! A way for fuzzers into the parser of Verdaccio's files. No part of the interface.

use bytes::Bytes;

use super::{
    merge::{merged, without_hosted},
    salvage::salvage,
    sidecar::{Listing, Sidecar, UPLINKS},
};
use crate::models::{Origin, PackageName};

/// Reads a file of Verdaccio's, and writes it again as if something had been published and unpublished.
///
/// # Panics
/// What is written cannot be read again.
pub(in crate::storage) fn sidecar(json: &[u8]) {
    let Ok(name) = "@scope/name".parse::<PackageName>() else {
        return;
    };
    salvage(json);
    let uplinks = ["up.example".to_owned()].into();
    let Ok(sidecar) = Sidecar::parse(&Bytes::copy_from_slice(json)) else {
        return;
    };
    for listing in [Listing::Listed, Listing::Unlisted, Listing::Unknown] {
        let hosted = sidecar.hosted(&name, listing, &uplinks);
        let view = Sidecar::parse(&sidecar.view(&hosted, Origin::Local));
        assert!(view.is_ok());
        let Ok(view) = view else {
            return;
        };
        assert!(
            view.versions()
                .keys()
                .all(|version| hosted.contains(version))
        );
        let merged = merged(&name, Some((&sidecar, &hosted)), &view, Origin::Local);
        assert!(Sidecar::parse(&merged).is_ok());
        if let Some(rest) = without_hosted(&name, &sidecar, &hosted) {
            assert!(Sidecar::parse(&rest).is_ok());
        }
        for uplink in sidecar.members(UPLINKS).keys() {
            if let Some((document, _)) = sidecar.of_uplink(&name, uplink, &hosted) {
                assert!(Sidecar::parse(&document).is_ok());
            }
        }
    }
}
