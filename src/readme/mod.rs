//! READMEs: Markdown of strangers as HTML in which nothing is active, and which asks nobody for anything.

mod code;
mod headings;
mod links;
mod shown;

use std::{borrow::Cow, sync::LazyLock};

use ammonia::{Builder, UrlRelative};
use comrak::{
    Arena, Node,
    nodes::{AstNode, NodeValue},
    options::{Options, Plugins},
};

use code::Highlighter;
use headings::Headings;
pub use links::{Links, browsable};
pub use shown::{Readme, Readmes};

/// How much of a README is shown, in bytes.
pub const MAX_LENGTH: usize = 1024 * 1024;
/// What ids of a README begin with: none of the page's own begins so.
const ID_PREFIX: &str = "readme-";
/// What comrak makes of the boxes of a list of tasks. Forms are not let through, so that these are
/// characters.
const BOXES: [(&str, &str); 2] = [
    (r#"<input type="checkbox" checked="" disabled="" />"#, "☑"),
    (r#"<input type="checkbox" disabled="" />"#, "☐"),
];

/// `markdown`, as GitHub writes it, as HTML. Links go where `links` say.
pub fn to_html(markdown: &str, links: &Links) -> String {
    let mut html = {
        let (highlighter, headings) = (Highlighter::new(), Headings::default());
        let mut plugins = Plugins::default();
        plugins.render.codefence_syntax_highlighter = Some(&highlighter);
        plugins.render.heading_adapter = Some(&headings);
        let arena = Arena::new();
        let document = comrak::parse_document(&arena, cut(markdown), &OPTIONS);
        link_images(&arena, document);
        let mut html = String::with_capacity(markdown.len());
        let written = comrak::format_html_with_plugins(document, &OPTIONS, &mut html, &plugins);
        debug_assert!(written.is_ok(), "a String takes all");
        html
    };
    for (input, character) in BOXES {
        if html.contains(input) {
            html = html.replace(input, character);
        }
    }
    clean(&html, links)
}

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut options = Options::default();
    let extension = &mut options.extension;
    extension.alerts = true;
    extension.autolink = true;
    extension.footnotes = true;
    extension.strikethrough = true;
    extension.table = true;
    extension.tasklist = true;
    // Many write HTML in their Markdown; it is cleaned afterwards.
    options.render.r#unsafe = true;
    options.render.gfm_quirks = true;
    options
});

/// Images become links to where they are: the page itself asks nobody else for anything. Of one that
/// is in a link already, its text is shown.
fn link_images<'a>(arena: &'a Arena<'a>, document: Node<'a>) {
    for node in document.descendants() {
        let is_link = |node: Node<'_>| matches!(node.data().value, NodeValue::Link(_));
        let image = match &node.data().value {
            NodeValue::Image(image) => image.clone(),
            _ => continue,
        };
        if node.ancestors().skip(1).any(is_link) {
            continue;
        }
        if node.first_child().is_none() {
            let file = image.url.rsplit('/').next().unwrap_or_default();
            let text = NodeValue::Text(file.to_owned().into());
            node.append(arena.alloc(AstNode::from(text)));
        }
        node.data_mut().value = NodeValue::Link(image);
    }
}

fn clean(html: &str, links: &Links) -> String {
    let links = links.clone();
    let resolve = move |url: &str| links.resolve(url).map(Cow::Owned);
    let mut builder = Builder::default();
    builder
        .add_tags(["section", "picture"])
        .rm_tags(["area", "map"])
        .add_tag_attributes("a", ["id"])
        .add_tag_attributes("div", ["class"])
        .add_tag_attributes("li", ["id"])
        .add_tag_attributes("p", ["class"])
        .add_tag_attributes("section", ["class"])
        .add_tag_attributes("span", ["class"])
        .add_tag_attributes("sup", ["class", "id"])
        .add_tag_attributes("h1", ["align", "id"])
        .add_tag_attributes("h2", ["align", "id"])
        .add_tag_attributes("h3", ["align", "id"])
        .add_tag_attributes("h4", ["align", "id"])
        .add_tag_attributes("h5", ["align", "id"])
        .add_tag_attributes("h6", ["align", "id"])
        .add_tag_attributes("p", ["align"])
        // What is wider than the page is moved by the keyboard too.
        .set_tag_attribute_value("pre", "tabindex", "0")
        .set_tag_attribute_value("table", "tabindex", "0")
        .url_schemes(["http", "https", "mailto"].into())
        .url_relative(UrlRelative::Custom(Box::new(Resolve(resolve))))
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            // The page asks nobody else for anything: of an image, its text is shown.
            ("img", "src") => None,
            (_, "class") => is_our_class(value).then_some(Cow::Borrowed(value)),
            _ => Some(Cow::Borrowed(value)),
        })
        .id_prefix(Some(ID_PREFIX))
        .link_rel(Some("nofollow noopener noreferrer"));
    builder.clean(html).to_string()
}

/// So that the closure has the lifetimes that it needs.
struct Resolve<F>(F);

impl<F> ammonia::UrlRelativeEvaluate<'static> for Resolve<F>
where
    F: Fn(&str) -> Option<Cow<'static, str>> + Send + Sync + 'static,
{
    fn evaluate<'url>(&self, url: &'url str) -> Option<Cow<'url, str>> {
        (self.0)(url)
    }
}

/// Whether all classes are of those that stand for something in code and notes; a README could look
/// like the page itself with others.
fn is_our_class(classes: &str) -> bool {
    const KNOWN: [&str; 2] = ["markdown-alert", "footnote"];
    classes.split_ascii_whitespace().all(|class| {
        class.starts_with(code::PREFIX) || KNOWN.iter().any(|known| class.starts_with(known))
    })
}

/// The beginning of `text`, if it is too long.
fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_LENGTH);
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn html(markdown: &str) -> String {
        let links = Links::of(Some("https://github.com/acme/app"), None);
        to_html(markdown, &links)
    }

    #[track_caller]
    fn check(markdown: &str, part: &str) {
        let html = html(markdown);
        assert!(html.contains(part), "`{part}` is not in {html}");
    }

    #[test]
    fn what_github_shows_is_shown() {
        check(
            "# Über *alles*",
            "<h2 id=\"readme-über-alles\">Über <em>alles</em></h2>",
        );
        check("# a\n# a\n###### b", "id=\"readme-a-1\"");
        check("###### b", "<h6 id=\"readme-b\">b</h6>");
        check("| a |\n|---|\n| b |", "<td>b</td>");
        check("~~gone~~", "<del>gone</del>");
        check("- [x] done\n- [ ] open", "☑ done");
        check("- [x] done\n- [ ] open", "☐ open");
        check("> [!NOTE]\n> so", "markdown-alert-note");
        check("https://example.com", r#"<a href="https://example.com""#);
        check("a[^1]\n\n[^1]: note", "note");
        check(
            "<details><summary>more</summary>hidden</details>",
            "<details><summary>more</summary>",
        );
    }

    #[test]
    fn code_is_highlighted() {
        check("```js\nconst a = 'b';\n```", r#"<span class="c-"#);
        check("```nobody-knows-it\n<a>\n```", "&lt;a&gt;");
        let long = html(&format!("```js\nconst a = '{}';\n```", "b".repeat(10_000)));
        assert!(
            !long.contains("class=\"c-"),
            "a long line is not worth its time"
        );
    }

    #[test]
    fn links_go_to_the_repository_or_stay_on_the_page() {
        check(
            "[a](docs/a.md)",
            r#"href="https://github.com/acme/app/blob/HEAD/docs/a.md""#,
        );
        check("[a](#b-c)", "href=\"#readme-b-c\"");
        check("## B c", r#"id="readme-b-c""#);
        check(
            "[a](/b)",
            r#"href="https://github.com/acme/app/blob/HEAD/b""#,
        );
        check("[a](//evil.example)", "<p><a rel");
    }

    #[test]
    fn images_are_asked_of_nobody() {
        for image in [
            "![text](https://evil.example/i.png)",
            "[![text](https://evil.example/i.png)](https://example.com)",
            "<img src=x.png alt=text>",
        ] {
            let html = html(image);
            assert!(!html.contains("src") && html.contains("text"), "{html}");
        }
        check(
            "![text](docs/i.png)",
            r#"href="https://github.com/acme/app/blob/HEAD/docs/i.png""#,
        );
        check("![](docs/i.png)", ">i.png</a>");
        check(
            "![x](javascript:alert(1))",
            "<p><a rel=\"nofollow noopener noreferrer\">x</a>",
        );
    }

    #[test]
    fn nothing_is_active() {
        for evil in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](data:text/html,<script>alert(1)</script>)",
            "<a href=\"&#106;avascript:alert(1)\">x</a>",
            "<svg onload=alert(1)><script>alert(1)</script></svg>",
            "<math><mi xlink:href=\"javascript:alert(1)\">x</mi></math>",
            "<iframe src=\"https://evil.example\"></iframe>",
            "<form action=\"/-/web/sign-out\"><button>x</button></form>",
            "<style>body{display:none}</style>",
            "<div style=\"position:fixed;inset:0\">x</div>",
            "<p class=\"warning\">x</p>",
            "<meta http-equiv=refresh content=\"0;url=https://evil.example\">",
            "<base href=\"https://evil.example\">",
            "<object data=x></object><embed src=x>",
            "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
            "```\"><script>alert(1)</script>\nx\n```",
            "<a id=\"main\" name=\"main\">x</a>",
        ] {
            let html = html(evil);
            let lower = html.to_ascii_lowercase();
            for active in [
                "<script",
                "onerror",
                "onload",
                "javascript:",
                "data:",
                "<svg",
                "<iframe",
                "<form",
                "<button",
                "<style",
                "style=",
                "<meta",
                "<base",
                "<object",
                "<embed",
                "class=\"warning",
                "id=\"main",
                "name=\"main",
            ] {
                let is_text = lower.replace("&lt;", "").contains(active)
                    && !lower.contains(&format!("&lt;{}", active.trim_start_matches('<')));
                assert!(!is_text, "{evil}: {html}");
            }
        }
    }

    #[test]
    fn long_ones_are_cut_between_characters() {
        let long = "ü".repeat(MAX_LENGTH);
        assert_eq!(cut(&long).len(), MAX_LENGTH);
        assert_eq!(cut("short"), "short");
    }

    proptest! {
        #[test]
        fn never_panics(markdown in "\\PC{0,400}") {
            let _ = html(&markdown);
        }
    }
}
