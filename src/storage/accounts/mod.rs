//! [`AccountStore`]: users, their tokens, and the organisations that they belong to.

#[cfg(test)]
pub(crate) mod conformance;
mod file;
mod organisation;
mod state;
mod store;

pub use file::FileAccounts;
pub(super) use organisation::groups_in;
pub use organisation::{OrganisationRecord, Role, TeamRecord};
pub use state::{
    AccountsError, PackageNameText, Profile, SecondFactorRecord, TokenKind, TokenRecord, UserRecord,
};
pub use store::{
    AccountEntry, AccountStore, AccountStoreExt, OrganisationEdit, Remember, UserEdit,
};
