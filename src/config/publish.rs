//! What a publish may do.

/// Settings of publishing and unpublishing.
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// Only a package's maintainers may change it.
    pub check_owners: bool,
    /// A new name may be published although its upstream cannot be asked.
    pub allow_offline: bool,
    /// A version that was unpublished may never be published again.
    pub immutable: bool,
    /// Compare `_rev` on every change, and require it on changes of metadata.
    pub strict_revision_check: bool,
    /// Published versions are signed.
    pub signing: bool,
    /// The largest tarball in bytes when unpacked; no setting changes it.
    pub max_unpacked: u64,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self {
            check_owners: false,
            allow_offline: false,
            immutable: false,
            strict_revision_check: false,
            signing: true,
            max_unpacked: 2 << 30,
        }
    }
}
