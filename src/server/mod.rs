//! Floor 8: sockets, connections and signals. What is served on them is given.

mod listen;
mod serve;
mod signals;
mod stall;
#[cfg(test)]
mod tests;
mod tls;

pub use listen::{ListenError, Listener, bind};
pub use serve::{ServeOptions, serve};
pub use signals::{stop_on_signals, survive_hangups};
pub use tls::{Tls, TlsError};
