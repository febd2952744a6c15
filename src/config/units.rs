//! Texts that mean something: switches, sizes, spans of time, addresses.

use std::{path::PathBuf, time::Duration};

use regex::{Regex, RegexBuilder};
use url::Url;

use super::{ListenAddress, TrustProxy};

/// `true`, `yes`, `on`, `1` and their opposites, in any case.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be `true` or `false`".to_owned()),
    }
}

/// Bytes: a number with `b`, `kb`, `mb`, `gb`, `tb` or `pb` (of 1024 each) behind it, or none; with a
/// unit it may have a fraction.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "must be a size such as `50mb`".to_owned();
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        "p" | "pb" => 1 << 50,
        _ => return Err(wrong()),
    };
    let digits = digits.trim_end();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let has_odd_fraction = digits.contains('.') && (fraction.is_empty() || factor == 1);
    if fraction.len() > 9 || has_odd_fraction {
        return Err(wrong());
    }
    let number = |digits: &str| -> Result<u64, String> {
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_plain).ok_or_else(wrong)
    };
    let parts = u64::pow(10, u32::try_from(fraction.len()).unwrap_or(0));
    let fraction = if fraction.is_empty() {
        0
    } else {
        number(fraction)?
    };
    let fraction = u128::from(factor) * u128::from(fraction) / u128::from(parts);
    let whole = u128::from(number(whole)?) * u128::from(factor);
    u64::try_from(whole + fraction).map_err(|_| wrong())
}

/// Verdaccio's spans: numbers with `ms s m h d w M y`, as in `1h 30m`; without a unit, seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a span of time such as `30s`, `2m` or `1h 30m`".to_owned();
    let mut sum = Duration::ZERO;
    let mut parts = text.split_whitespace().peekable();
    if parts.peek().is_none() {
        return Err(wrong());
    }
    for part in parts {
        let number = part.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let seconds = match part.get(number.len()..).unwrap_or_default() {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "M" => 2_592_000.0,
            "y" => 31_536_000.0,
            _ => return Err(wrong()),
        };
        let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let added = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        sum = sum
            .checked_add(added)
            .filter(|_| is_plain)
            .ok_or_else(wrong)?;
    }
    Ok(sum)
}

/// An address to listen on, in all of Verdaccio's forms: `4873`, `host:port`, `[::1]:4873`,
/// `http://host:port/`, `unix:/path`.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let wrong = || "must be an address such as `127.0.0.1:4873` or `unix:/run/npm.sock`".to_owned();
    let text = text.trim();
    let (tls, text) = match text.split_once(':') {
        Some(("https", rest)) => (Some(true), rest),
        Some(("http", rest)) => (Some(false), rest),
        _ => (None, text),
    };
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err(wrong());
        }
        return Ok(ListenAddress::Unix(PathBuf::from(path)));
    }
    let text = text.trim_start_matches("//").trim_end_matches('/');
    if let Ok(port) = text.trim_start_matches(':').parse() {
        let host = "localhost".to_owned();
        return Ok(ListenAddress::Tcp { host, port, tls });
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let host = if is_bracketed {
        host.trim_matches(['[', ']'])
    } else {
        host
    };
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b))
        && (is_bracketed || !host.contains(':'));
    let port = port.parse().map_err(|_| wrong())?;
    if !is_host {
        return Err(wrong());
    }
    let host = host.to_owned();
    Ok(ListenAddress::Tcp { host, port, tls })
}

/// The path of a file or folder.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must be a path".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// A regular expression, in JavaScript's slashes or without.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    let inner = text
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'));
    let (pattern, flags) = inner.unwrap_or((text, ""));
    let ignores_case = flags.contains('i');
    RegexBuilder::new(pattern)
        .case_insensitive(ignores_case)
        .build()
        .map_err(|_| "must be a regular expression such as `/.{8}$/`".to_owned())
}

/// An http(s) origin: an address without a path.
pub(super) fn origin(text: &str) -> Result<Url, String> {
    let url = text.parse::<Url>().ok().filter(|url| {
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_nameless = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && is_bare && is_nameless
    });
    url.ok_or_else(|| "must be origins such as `https://files.example.com`".to_owned())
}

/// A switch, or a list of networks.
pub(super) fn trust_proxy(text: &str) -> Result<TrustProxy, String> {
    if let Ok(is_trusted) = switch(text) {
        return Ok(if is_trusted {
            TrustProxy::Yes
        } else {
            TrustProxy::No
        });
    }
    // So many proxies in front: no client comes without one.
    if text.trim().parse::<u8>().is_ok() {
        return Ok(TrustProxy::Yes);
    }
    let networks = words(text)
        .map(|word| match word {
            "loopback" => Ok(vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()]),
            "linklocal" => Ok(vec!["169.254.0.0/16".to_owned(), "fe80::/10".to_owned()]),
            "uniquelocal" => Ok(
                ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            other => Ok(vec![other.to_owned()]),
        })
        .collect::<Result<Vec<_>, String>>()?;
    let networks = networks.into_iter().flatten().map(|text| {
        let network = text.parse::<ipnet::IpNet>().ok();
        let address = || {
            text.parse::<std::net::IpAddr>()
                .ok()
                .map(ipnet::IpNet::from)
        };
        network.or_else(address)
    });
    let networks: Option<Vec<_>> = networks.collect();
    let networks = networks.ok_or_else(|| {
        "must be `true`, `false`, or the proxies' networks such as `10.0.0.0/8`".to_owned()
    })?;
    if networks.is_empty() {
        return Ok(TrustProxy::No);
    }
    Ok(TrustProxy::From(networks))
}

/// The path below which the registry is: a slash in front, none behind, empty for the root.
pub(super) fn url_prefix(text: &str) -> Result<String, String> {
    let path = text.trim().trim_matches('/');
    let is_path = path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b));
    if !is_path || path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("must be a path such as `/npm/`".to_owned());
    }
    Ok(if path.is_empty() {
        String::new()
    } else {
        format!("/{path}")
    })
}

/// The items of a list that is written with commas, spaces or both.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n'])
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("50mb"), Ok(50 << 20));
        assert_eq!(size(" 10 KB "), Ok(10 << 10));
        assert_eq!(size("16"), Ok(16));
        assert_eq!(size("1.5mb"), Ok(3 << 19));
        assert_eq!(size("10tb"), Ok(10 << 40));
        for text in [
            "",
            "mb",
            "1.5",
            "1.mb",
            ".5mb",
            "-1",
            "+1",
            "10xb",
            "99999999999gb",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans() {
        assert_eq!(span("30"), Ok(Duration::from_secs(30)));
        assert_eq!(span("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(span("0.5m"), Ok(Duration::from_secs(30)));
        for text in ["", "1x", "-1s", "m", "1e9y", "inf", "NaNs", "1h30m"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let show = |text: &str| listen_address(text).map(|address| address.to_string());
        assert_eq!(show("4873").as_deref(), Ok("localhost:4873"));
        assert_eq!(show("localhost:4873").as_deref(), Ok("localhost:4873"));
        assert_eq!(show("http://0.0.0.0:80/").as_deref(), Ok("0.0.0.0:80"));
        assert_eq!(show("[::1]:4873").as_deref(), Ok("[::1]:4873"));
        assert_eq!(show("http::4873").as_deref(), Ok("localhost:4873"));
        assert_eq!(show("unix:/tmp/x").as_deref(), Ok("unix:/tmp/x"));
        for text in [
            "",
            "host",
            "host:99999",
            "::1:80",
            "a b:80",
            "unix:",
            "/:80",
        ] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies() {
        assert_eq!(trust_proxy("True"), Ok(TrustProxy::Yes));
        assert_eq!(trust_proxy("0"), Ok(TrustProxy::No));
        assert_eq!(trust_proxy(","), Ok(TrustProxy::No));
        let networks = trust_proxy("10.0.0.0/8, 192.168.1.1 loopback").unwrap();
        assert!(networks.covers("192.168.1.1".parse().ok()));
        assert!(networks.covers("::1".parse().ok()));
        assert!(!networks.covers("192.168.1.2".parse().ok()));
        assert!(trust_proxy("nobody").is_err());
        assert_eq!(trust_proxy("2"), Ok(TrustProxy::Yes));
        let near = trust_proxy("linklocal, uniquelocal").unwrap();
        assert!(near.covers("172.20.1.1".parse().ok()) && !near.covers("127.0.0.1".parse().ok()));
    }

    #[test]
    fn origins() {
        let show = |text: &str| origin(text).map(|url| url.to_string());
        assert_eq!(
            show("https://a.example").as_deref(),
            Ok("https://a.example/")
        );
        assert_eq!(
            show("http://10.0.0.1:8080/").as_deref(),
            Ok("http://10.0.0.1:8080/")
        );
        for text in [
            "a.example",
            "ftp://a",
            "http://a/path",
            "http://u:p@a",
            "http://a/?q",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(url_prefix("/").as_deref(), Ok(""));
        assert_eq!(url_prefix("npm/").as_deref(), Ok("/npm"));
        assert_eq!(url_prefix("/a/b/").as_deref(), Ok("/a/b"));
        assert!(url_prefix("/a/../b").is_err());
        assert!(url_prefix("http://x").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = (switch(&text), size(&text), span(&text), listen_address(&text));
            let _ = (trust_proxy(&text), url_prefix(&text));
        }

        #[test]
        fn number_like_text_too(text in "[0-9a-zA-Z. :/\\[\\]-]{0,20}") {
            let _ = (size(&text), span(&text), listen_address(&text));
        }
    }
}
