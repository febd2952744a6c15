//! `rustaccio healthcheck`: asks the registry that the settings describe whether it is ready; for
//! containers, which have nothing else to ask with.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use super::complain;
use crate::{
    config::{Config, ListenAddress},
    net::ask_itself,
};

/// Storage has this long to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends with 0 if the registry is ready, and else with 1: of other numbers container engines do not
/// know what they mean.
pub(super) fn run(settings: &Config, out: &mut impl Write) -> ExitCode {
    if !settings.problems().is_empty() {
        complain(settings.problems());
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(ask(settings)));
    match asked {
        // Nobody may be listening; the answer is how it ends.
        Ok(()) => {
            let _ = writeln!(out, "ready");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            let _ = writeln!(io::stderr().lock(), "rustaccio is not ready: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(settings: &Config) -> Result<(), String> {
    let address = settings.server.listen.first();
    let address = address.ok_or("there is no address that it listens on")?;
    let has_tls = settings.server.tls.certificate.is_some();
    let origin = origin(address, has_tls)?;
    let url = format!("{origin}{}/-/health/ready", settings.url_prefix);
    let socket = match address {
        ListenAddress::Unix(path) => Some(path.as_path()),
        ListenAddress::Tcp { .. } => None,
    };
    match ask_itself(&url, socket, PATIENCE).await? {
        (200, _) => Ok(()),
        (status, text) => Err(format!("{url} answered {status}: {text}")),
    }
}

/// The scheme and host that reach `address` from this machine.
fn origin(address: &ListenAddress, has_tls: bool) -> Result<String, String> {
    let ListenAddress::Tcp { host, port, tls } = address else {
        return Ok("http://localhost".to_owned());
    };
    if *port == 0 {
        return Err(format!(
            "`{address}` lets the system choose a port; name one in RUSTACCIO_BIND"
        ));
    }
    let is_secure = has_tls && tls.unwrap_or(true);
    let scheme = if is_secure { "https" } else { "http" };
    // All addresses of a machine are none to be asked.
    let host = match host.as_str() {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Ok(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, has_tls: bool, expected: Option<&str>) {
        let (address, tls) = match address.strip_prefix("http://") {
            Some(address) => (address, Some(false)),
            None => (address, None),
        };
        let (host, port) = address.rsplit_once(':').unwrap();
        let address = ListenAddress::Tcp {
            host: host.to_owned(),
            port: port.parse().unwrap(),
            tls,
        };
        assert_eq!(origin(&address, has_tls).ok().as_deref(), expected);
    }

    #[test]
    fn the_own_machine_is_asked_at_an_address_that_it_has() {
        check("127.0.0.1:4873", false, Some("http://127.0.0.1:4873"));
        check("0.0.0.0:80", false, Some("http://127.0.0.1:80"));
        check(":::80", true, Some("https://[::1]:80"));
        check("fd00::1:80", false, Some("http://[fd00::1]:80"));
        check("npm.internal:1", true, Some("https://npm.internal:1"));
        check("http://127.0.0.1:1", true, Some("http://127.0.0.1:1"));
        check("127.0.0.1:0", false, None);
    }
}
