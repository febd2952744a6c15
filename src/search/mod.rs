//! Floor 5: what is there. An index in memory of everything that was published here.

mod entry;
mod folded;
mod index;
mod query;

pub use entry::{SearchEntry, SearchHit};
pub use index::{Found, Index, Sight, Window};
pub use query::Query;
