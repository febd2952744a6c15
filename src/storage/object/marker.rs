//! [`Marker`]: what lies at the key of a tarball that is large, was replaced or was deleted.

use bytes::Bytes;

use crate::lifecycle::random_hex;

const HEAD: &str = "rustaccio blob ";
/// The length of all markers, which no gzip archive of a package reaches.
pub(super) const LENGTH: u64 = 53;

/// Says where the bytes of a tarball are, if they are anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// They were deleted.
    Gone,
    /// They are in an object of their own, which this text names.
    Elsewhere(String),
}

impl Marker {
    /// One that says that the bytes are gone. There are no two that are the same.
    pub(super) fn gone() -> Bytes {
        Bytes::from(format!("{HEAD}gone {}\n", random_hex::<16>()))
    }

    /// One that says that the bytes are in the object with this `nonce`.
    pub(super) fn elsewhere(nonce: &str) -> Bytes {
        Bytes::from(format!("{HEAD}here {nonce}\n"))
    }

    /// The marker that these bytes are; `None` for any others.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (kind, nonce) = text
            .strip_prefix(HEAD)?
            .strip_suffix('\n')?
            .split_once(' ')?;
        let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        match kind {
            "gone" if is_nonce => Some(Self::Gone),
            "here" if is_nonce => Some(Self::Elsewhere(nonce.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_told_from_archives() {
        let nonce = random_hex::<16>();
        let (gone, here) = (Marker::gone(), Marker::elsewhere(&nonce));
        for marker in [&gone, &here] {
            assert_eq!(u64::try_from(marker.len()), Ok(LENGTH));
        }
        assert_eq!(Marker::parse(&gone), Some(Marker::Gone));
        assert_eq!(Marker::parse(&here), Some(Marker::Elsewhere(nonce)));
        assert_ne!(Marker::gone(), gone);
        assert_eq!(Marker::parse(b"\x1f\x8b\x08"), None);
        assert_eq!(Marker::parse(b"rustaccio blob here ../../x\n"), None);
    }
}
