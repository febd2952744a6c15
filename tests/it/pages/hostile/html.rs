//! [`problems`]: what is active in a page, or is not as a page of ours is written.

use std::sync::LazyLock;

use regex::Regex;

/// A tag as pages of ours write them: attributes have double quotes, or no value.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^<(/?)([a-z][a-z0-9]*)((?:\s+[a-z][a-z-]*(?:="[^"<>]*")?)*)\s*/?>"#).unwrap()
});
static ATTRIBUTE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"\s+([a-z][a-z-]*)(?:="([^"]*)")?"#).unwrap());

/// Elements of which there is as much as our own pages have.
const OURS: [(&str, usize); 6] = [
    ("script", 1),
    ("link", 2),
    ("meta", 3),
    ("title", 1),
    ("main", 1),
    ("body", 1),
];
const NEVER: [&str; 17] = [
    "iframe", "frame", "frameset", "object", "embed", "style", "base", "svg", "math", "template",
    "noscript", "video", "audio", "source", "textarea", "dialog", "portal",
];

pub(super) fn problems(html: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut counts = OURS.map(|_| 0);
    let html = html.strip_prefix("<!doctype html>").unwrap_or(html);
    for (at, _) in html.match_indices('<') {
        let rest = &html[at..];
        let Some(tag) = TAG.captures(rest) else {
            let shown: String = rest.chars().take(120).collect();
            problems.push(format!("no tag of ours: {shown}"));
            continue;
        };
        let (is_end, element) = (!tag[1].is_empty(), &tag[2]);
        if NEVER.contains(&element) {
            problems.push(tag[0].to_owned());
        }
        if let Some(of_ours) = OURS.iter().position(|(name, _)| *name == element)
            && !is_end
        {
            counts[of_ours] += 1;
        }
        for attribute in ATTRIBUTE.captures_iter(&tag[3]) {
            let value = attribute.get(2).map_or("", |value| value.as_str());
            if is_active(element, &attribute[1], value) {
                problems.push(tag[0].to_owned());
            }
        }
    }
    for ((name, most), count) in OURS.iter().zip(counts) {
        if count > *most {
            problems.push(format!("{count} of {name}"));
        }
    }
    problems
}

fn is_active(element: &str, attribute: &str, value: &str) -> bool {
    let is_own = || value.starts_with('/') && !value.starts_with("//") && !value.contains('\\');
    match (element, attribute) {
        (
            _,
            "style" | "srcset" | "srcdoc" | "formaction" | "ping" | "target" | "background"
            | "autofocus",
        ) => true,
        ("a", "href") => {
            let is_page = ["https://", "http://", "mailto:", "#"]
                .iter()
                .any(|start| value.starts_with(start));
            !is_page && !is_own()
        }
        // Whatever is loaded, and wherever forms go, is ours.
        (_, "href" | "src" | "action") => !is_own(),
        (_, name) => name.starts_with("on"),
    }
}

#[cfg(test)]
mod tests {
    use super::problems;

    #[test]
    fn what_is_active_is_found() {
        for evil in [
            "<p onclick=\"x\">",
            "<P>",
            "<a href=\"javascript:x\">",
            "<a href=\"//evil.example\">",
            "<img src=\"https://evil.example/x\">",
            "<form action=\"https://evil.example/x\">",
            "<svg>",
            "<p title='x'>",
            "a < b",
            "<script></script><script></script>",
        ] {
            assert!(!problems(evil).is_empty(), "{evil}");
        }
        for good in [
            "<p class=\"x\" hidden>a &lt; b</p>",
            "<a href=\"/x\">",
            "<a href=\"https://a.example\">",
        ] {
            assert!(problems(good).is_empty(), "{good}");
        }
    }
}
