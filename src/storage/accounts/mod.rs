//! [`AccountStore`]: users, their tokens, and the organisations that they belong to.

#[cfg(test)]
pub(crate) mod conformance;
mod file;
mod htpasswd;
mod organisation;
mod state;
mod store;
mod verdaccio;

pub use file::FileAccounts;
pub use htpasswd::HtpasswdAccounts;
pub(super) use htpasswd::fuzz as fuzz_htpasswd;
pub(super) use organisation::groups_in;
pub use organisation::{OrganisationRecord, Role, TeamRecord};
pub use state::{
    AccountsError, PackageNameText, Profile, SecondFactorRecord, TokenKind, TokenRecord, UserRecord,
};
pub use store::{
    AccountEntry, AccountStore, AccountStoreExt, HashForm, OrganisationEdit, Remember, UserEdit,
};
pub use verdaccio::{VerdaccioToken, VerdaccioTokenList, verdaccio_secret};
