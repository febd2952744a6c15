//! Settings shown.
