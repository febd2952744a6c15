//! `notify` in a file: Verdaccio's requests that tell others of a publish.

use handlebars::Template;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::{Regex, RegexBuilder};

use super::{
    HookConfig, Problem, Source,
    keys::{HOOK, known},
    rules::Findings,
    yaml::Node,
};

/// Reads `notify` (or `notifications`): one hook, or a map or a list of them.
pub(super) fn hooks(
    key: &str,
    node: &Node,
    source: &Source,
    findings: &mut Findings,
) -> Vec<HookConfig> {
    let mut reader = Reader { source, findings };
    match node {
        Node::Map(members) if is_hook(members) => reader.hook(key, members).into_iter().collect(),
        Node::Map(members) => members
            .iter()
            .filter_map(|(name, node)| reader.any(&format!("{key}.{name}"), node))
            .collect(),
        Node::List(items) => (0_usize..)
            .zip(items)
            .filter_map(|(at, node)| reader.any(&format!("{key}[{at}]"), node))
            .collect(),
        _ if node.is_blank() => Vec::new(),
        _ => {
            reader.wrong(key, "", "must be a hook, or a map of hooks");
            Vec::new()
        }
    }
}

/// Whether these are the keys of a hook, and not names of hooks.
fn is_hook(members: &[(String, Node)]) -> bool {
    let is_value = |node: &Node| matches!(node, Node::Text(_));
    members.iter().any(|(key, node)| {
        matches!(key.as_str(), "endpoint" | "content" | "method") && is_value(node)
    })
}

struct Reader<'a> {
    source: &'a Source,
    findings: &'a mut Findings,
}

#[derive(Default)]
struct Parts {
    endpoint: Option<url::Url>,
    method: Method,
    headers: HeaderMap,
    content: Option<Template>,
    pattern: Option<String>,
    flags: String,
}

impl Reader<'_> {
    fn wrong(&mut self, setting: &str, value: &str, message: &str) {
        let problem = Problem::new(setting, value, self.source, message);
        self.findings.problems.push(problem);
    }

    fn any(&mut self, path: &str, node: &Node) -> Option<HookConfig> {
        if let Node::Map(members) = node {
            return self.hook(path, members);
        }
        if !node.is_blank() {
            self.wrong(path, "", "must be a map with `endpoint` and `content`");
        }
        None
    }

    fn hook(&mut self, path: &str, members: &[(String, Node)]) -> Option<HookConfig> {
        let problems_before = self.findings.problems.len();
        let mut parts = Parts {
            method: Method::POST,
            ..Parts::default()
        };
        for (key, node) in members {
            // Values may hold secrets, so none is shown.
            if let Err(message) = self.member(&mut parts, path, key, node) {
                self.wrong(&format!("{path}.{key}"), "", &message);
            }
        }
        let Parts {
            endpoint,
            method,
            headers,
            content,
            pattern,
            flags,
        } = parts;
        let packages = pattern.map(|pattern| regex(&pattern, &flags));
        let packages = packages.transpose().unwrap_or_else(|(key, message)| {
            self.wrong(&format!("{path}.{key}"), "", &message);
            None
        });
        let has = |wanted: &str| members.iter().any(|(key, _)| key == wanted);
        if !has("endpoint") {
            let message = "is missing; give the address that is to be told";
            self.wrong(&format!("{path}.endpoint"), "", message);
        }
        if !has("content") {
            let message = "is missing; give what is to be told, as a Handlebars template";
            self.wrong(&format!("{path}.content"), "", message);
        }
        if self.findings.problems.len() > problems_before {
            return None;
        }
        Some(HookConfig {
            path: path.to_owned(),
            endpoint: endpoint?,
            method,
            headers,
            content: content?,
            packages,
        })
    }

    fn member(
        &mut self,
        parts: &mut Parts,
        path: &str,
        key: &str,
        node: &Node,
    ) -> Result<(), String> {
        let text = || node.to_text().ok_or_else(|| "must be a text".to_owned());
        match known(key, HOOK) {
            "endpoint" => {
                let wrong = || "must be an http or https address".to_owned();
                parts.endpoint = Some(address(&text()?).ok_or_else(wrong)?);
            }
            "method" => {
                parts.method = match text()?.trim().to_ascii_uppercase().as_str() {
                    "POST" | "" => Method::POST,
                    "PUT" => Method::PUT,
                    "GET" => Method::GET,
                    _ => return Err("must be `POST`, `PUT` or `GET`".to_owned()),
                };
            }
            "headers" => read_headers(node, &mut parts.headers)?,
            "content" => {
                let text = text()?;
                let template = Template::compile(&text);
                parts.content = Some(template.map_err(|error| {
                    format!(
                        "is not a Handlebars template: {}",
                        one_line(&error.to_string())
                    )
                })?);
            }
            "package_pattern" => parts.pattern = Some(text()?).filter(|text| !text.is_empty()),
            "package_pattern_flags" => parts.flags = text()?,
            _ => {
                let message = "is not known and does nothing";
                let warning = Problem::new(format!("{path}.{key}"), "", self.source, message);
                self.findings.warnings.push(warning);
            }
        }
        Ok(())
    }
}

/// An address as it is written: a slash at its end may mean something.
fn address(text: &str) -> Option<url::Url> {
    let url: url::Url = text.trim().parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// JavaScript's pattern and flags; what is wrong, and with which key.
fn regex(pattern: &str, flags: &str) -> Result<Regex, (&'static str, String)> {
    let sticks = flags.contains('y');
    let anchored = if sticks {
        format!("^(?:{pattern})")
    } else {
        pattern.to_owned()
    };
    let mut builder = RegexBuilder::new(&anchored);
    for flag in flags.trim().chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            // Of texts that are looked at once, and always as Unicode.
            'g' | 'u' | 'y' | 'd' | 'v' => &mut builder,
            _ => {
                let message =
                    "has a flag that JavaScript does not know; use `i`, `m`, `s`, `u`, `g` or `y`";
                return Err(("packagePatternFlags", message.to_owned()));
            }
        };
    }
    builder.build().map_err(|error| {
        let error = one_line(&error.to_string());
        let message = format!(
            "is not a pattern that can be used ({error}); looking around and back-references cannot"
        );
        ("packagePattern", message)
    })
}

/// A map, a list of maps, or either as JSON in a text.
fn read_headers(node: &Node, headers: &mut HeaderMap) -> Result<(), String> {
    let wrong = || "must be a map, or a list of maps, from names to values".to_owned();
    match node {
        Node::Empty => Ok(()),
        Node::Map(members) => {
            for (name, value) in members {
                let value = value.to_text().ok_or_else(wrong)?;
                add_header(headers, name, value.trim())?;
            }
            Ok(())
        }
        Node::List(items) => items
            .iter()
            .try_for_each(|item| read_headers(item, headers)),
        Node::Text(text) if text.trim().is_empty() => Ok(()),
        Node::Text(text) => {
            let json: serde_json::Value = serde_json::from_str(text).map_err(|_| wrong())?;
            let maps = match json {
                serde_json::Value::Array(items) => items,
                other => vec![other],
            };
            for map in maps {
                for (name, value) in map.as_object().ok_or_else(wrong)? {
                    let value = match value {
                        serde_json::Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    add_header(headers, name, &value)?;
                }
            }
            Ok(())
        }
    }
}

fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let invalid = || "has a name or a value that no header can have".to_owned();
    let name = HeaderName::try_from(name).map_err(|_| invalid())?;
    let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// The libraries draw the place in several lines; a problem is one.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_javascripts() {
        let matches =
            |pattern: &str, flags: &str, text: &str| regex(pattern, flags).unwrap().is_match(text);
        assert!(!matches("^ACME-", "", "acme-tools"));
        assert!(matches("^ACME-", "i", "acme-tools"));
        assert!(matches("^@acme/", "gu", "@acme/tools"));
        assert!(matches("tools", "", "acme-tools"));
        assert!(!matches("tools", "y", "acme-tools"));
        assert_eq!(regex("x", "q").unwrap_err().0, "packagePatternFlags");
        assert_eq!(regex("(?!x)", "").unwrap_err().0, "packagePattern");
        assert_eq!(regex("(", "").unwrap_err().0, "packagePattern");
    }
}
