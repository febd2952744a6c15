//! [`Origin`]: whose a hosted package's name is.

use serde::{Deserialize, Serialize};

/// Fixed when a name is first published here, and kept in its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// No proxied upstream had the name: upstream is never asked or merged for it again.
    Local,
    /// Upstream had the name: its versions are merged under ours.
    Override,
}
