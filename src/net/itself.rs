//! [`ask_itself`]: a question to a registry that runs on this very machine.

use std::{error::Error, path::Path, time::Duration};

use reqwest::Client;

/// GETs `url`, through the unix socket at `socket` if there is one. The status of the answer and its
/// text, or why there is none. No proxy is asked, and certificates are not checked: they are for the
/// name that clients use, and not for an address of this machine.
pub async fn ask_itself(
    url: &str,
    socket: Option<&Path>,
    patience: Duration,
) -> Result<(u16, String), String> {
    let client = Client::builder()
        .no_proxy()
        .timeout(patience)
        .tls_danger_accept_invalid_certs(true);
    let client = match socket {
        Some(path) => client.unix_socket(path),
        None => client,
    };
    let client = client.build().map_err(|error| chain(&error))?;
    let answer = client.get(url).send().await;
    let answer = answer.map_err(|error| chain(&error))?;
    let status = answer.status().as_u16();
    let text = answer.text().await.map_err(|error| chain(&error))?;
    Ok((status, text))
}

/// What an error says, and what it came from.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
