//! The rules: who may do what with which names, and which upstreams are asked for them.

use std::path::PathBuf;

use crate::models::{Principal, UplinkName};

/// One entry of `packages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRule {
    /// A minimatch pattern such as `@acme/*` or `**`.
    pub pattern: String,
    /// Who may read. Empty: nobody.
    pub access: Vec<Principal>,
    /// Who may publish. Empty: nobody.
    pub publish: Vec<Principal>,
    /// Who may unpublish. Empty: nobody. (A file's missing `unpublish` is filled from `publish`.)
    pub unpublish: Vec<Principal>,
    /// The uplinks to ask, in this order. Empty: the names are ours alone.
    pub proxy: Vec<UplinkName>,
    /// Overrules a hosted package's origin: merge upstream's versions, or never.
    pub merge: Option<bool>,
    /// Where the packages are in a folder of Verdaccio's, below it.
    pub storage: Option<PathBuf>,
}

/// The rules in the order in which they are tried; the first whose pattern matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagesConfig {
    /// The rules.
    pub rules: Vec<PackageRule>,
}

impl Default for PackagesConfig {
    /// `@*/*` and `**`: read `$all`, write `$authenticated`, proxy `default`.
    fn default() -> Self {
        let rule = |pattern: &str| PackageRule {
            pattern: pattern.to_owned(),
            access: vec![Principal::All],
            publish: vec![Principal::Authenticated],
            unpublish: vec![Principal::Authenticated],
            proxy: "default".parse().into_iter().collect(),
            merge: None,
            storage: None,
        };
        Self {
            rules: vec![rule("@*/*"), rule("**")],
        }
    }
}
