//! The `rustaccio` program.

use std::process::ExitCode;

// Documents of many megabytes come and go; this one gives their memory back to the system.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    rustaccio::cli::main()
}
