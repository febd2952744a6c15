//! [`Writes`]: how writers get along, and what storage does.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// How waiting for a lease ended; the label `outcome`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Waited {
    /// It was given.
    Acquired,
    /// Others held it all the time.
    Timeout,
    /// Its backend failed, and nothing was written.
    Failed,
    /// Its backend failed, and the writer went on without it.
    FailedOpen,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    operation: &'static str,
}

#[derive(Debug)]
pub(super) struct Writes {
    acquired: Counter,
    timeout: Counter,
    failed: Counter,
    failed_open: Counter,
    pub(super) conflicts: Counter,
    errors: Family<Of, Counter>,
}

/// What storage does that may fail; the label `operation`. Others are given as they are.
const OPERATIONS: [&str; 6] = [
    "manifest_read",
    "manifest_write",
    "manifest_list",
    "tarball_read",
    "tarball_write",
    "tarball_delete",
];

impl Writes {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let leases = Family::<Ending, Counter>::default();
        let lease = |outcome| leases.get_or_create_owned(&Ending { outcome });
        let this = Self {
            acquired: lease("acquired"),
            timeout: lease("timeout"),
            failed: lease("failed"),
            failed_open: lease("failed_open"),
            conflicts: Counter::default(),
            errors: Family::default(),
        };
        for operation in OPERATIONS {
            let _ = this.errors.get_or_create_owned(&Of { operation });
        }
        registry.register(
            "lease_waits",
            "Writers that waited for their turn, by how that ended",
            leases,
        );
        registry.register(
            "manifest_conflicts",
            "Writes of manifests that somebody else was faster than; they are tried again",
            this.conflicts.clone(),
        );
        registry.register(
            "storage_errors",
            "Operations on hosted packages that storage failed at",
            this.errors.clone(),
        );
        this
    }

    pub(super) fn waited(&self, how: Waited) {
        let counter = match how {
            Waited::Acquired => &self.acquired,
            Waited::Timeout => &self.timeout,
            Waited::Failed => &self.failed,
            Waited::FailedOpen => &self.failed_open,
        };
        counter.inc();
    }

    pub(super) fn failed(&self, operation: &'static str) {
        self.errors.get_or_create_owned(&Of { operation }).inc();
    }
}
