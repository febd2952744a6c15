//! The command line of rustaccio.

fn main() {}
