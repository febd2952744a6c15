//! Floor 5: what is there. An index in memory of everything that was published here.

mod entry;
mod index;
mod query;

pub use entry::{SearchEntry, SearchHit};
pub use index::{Index, Window};
pub use query::Query;
