//! Accounts, sessions and keys as objects in a bucket, shared by all nodes without a lock.
//!
//! Everything lies below `.rustaccio/accounts/`, which no package can be called:
//!
//! | key | what |
//! |---|---|
//! | `users/NAME` | a user, changed by compare-and-swap; `null` for one that came too late |
//! | `tokens/HASH` | a token; it is good for as long as this object is there |
//! | `tokens-of/NAME/EXPIRES.HASH` | empty: which tokens a user has, for listing hers alone |
//! | `organisations` | all organisations, changed by compare-and-swap |
//! | `pages/ID`, `clients/ID` | a login that waits for a browser, and its name for the client |
//! | `passes/HASH`, `claims/HASH` | one-time passes, and who used one first; create-only |
//! | `keys/NAME` | keys that all nodes share, create-only or by compare-and-swap |

mod accounts;
mod keys;
mod records;
mod sessions;

pub use accounts::{ObjectAccounts, REVOKED_WITHIN};
pub use keys::ObjectKeys;
pub use records::Records;
pub use sessions::ObjectSessions;

#[cfg(test)]
mod tests;
