//! Settings of the runtime profile.

use super::{
    Kind::{Choice, Switch},
    Setting,
};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "RUSTACCIO_RUNTIME_PROFILE",
        "",
        // What goes with it is looked at once everything is known, see `config/profile.rs`.
        Choice(&["local", "s3", "managed"], |_, _| {}),
        "What kind of registry this is meant to be: `local`, one node on its disk; `s3`, nodes on a \
         bucket; `managed`, nodes with limits and accounts from outside. The start fails where other \
         settings contradict it. Without it, nothing is checked.",
    ),
    Setting::new(
        "RUSTACCIO_MANAGED_MODE",
        "false",
        // Where the other one is set too, it comes later in the table.
        Switch(|target, on| target.config.publish.strict_revision_check = on),
        "The same as the profile `managed`; turns `RUSTACCIO_STRICT_REVISION_CHECK` on too.",
    ),
];
