//! Floor 2: what the program tells about itself.

mod logs;

pub use logs::{LogError, check_logs, start_logs};
