//! [`Highlighter`]: code in colours, by classes of the page's stylesheet.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use comrak::adapters::SyntaxHighlighterAdapter;
use syntect::{
    html::{ClassStyle, ClassedHTMLGenerator},
    parsing::{SyntaxReference, SyntaxSet},
    util::LinesWithEndings,
};

/// What the classes of code begin with.
pub(super) const PREFIX: &str = "c-";
/// How much code of one README is highlighted, in bytes: it takes about a second for each megabyte.
const BUDGET: usize = 32 * 1024;

/// How long a line that is highlighted may be, in bytes: what a line takes grows with the square of its length.
const MAX_LINE: usize = 500;

static SYNTAXES: LazyLock<SyntaxSet> = LazyLock::new(SyntaxSet::load_defaults_newlines);

/// Highlights the code of one README, up to a limit.
#[derive(Debug)]
pub(super) struct Highlighter {
    left: AtomicUsize,
}

impl Highlighter {
    pub(super) fn new() -> Self {
        Self {
            left: AtomicUsize::new(BUDGET),
        }
    }

    fn highlighted(&self, language: &str, code: &str) -> Option<String> {
        let syntax = syntax_of(language)?;
        if code.lines().any(|line| line.len() > MAX_LINE) {
            return None;
        }
        let left = self.left.load(Ordering::Relaxed).checked_sub(code.len())?;
        self.left.store(left, Ordering::Relaxed);
        let style = ClassStyle::SpacedPrefixed { prefix: PREFIX };
        let mut html = ClassedHTMLGenerator::new_with_class_style(syntax, &SYNTAXES, style);
        for line in LinesWithEndings::from(code) {
            html.parse_html_for_line_which_includes_newline(line).ok()?;
        }
        Some(html.finalize())
    }
}

/// The syntax that the first word of an info string means.
fn syntax_of(language: &str) -> Option<&'static SyntaxReference> {
    let token = language.split([',', ' ', '{']).next().unwrap_or_default();
    // What the syntaxes that come with the library know under another name, or nearly know.
    let token = match token.to_ascii_lowercase().as_str() {
        "ts" | "typescript" | "tsx" | "jsx" | "mjs" | "cjs" | "javascript" | "node" => "js".into(),
        "sh" | "shell" | "console" | "zsh" | "bash" => "sh".into(),
        "jsonc" | "json5" => "json".into(),
        "yml" => "yaml".into(),
        other => Cow::Owned(other.to_owned()),
    };
    let token: Cow<'_, str> = token;
    (!token.is_empty())
        .then(|| SYNTAXES.find_syntax_by_token(&token))
        .flatten()
}

impl SyntaxHighlighterAdapter for Highlighter {
    fn write_highlighted(
        &self,
        output: &mut dyn fmt::Write,
        language: Option<&str>,
        code: &str,
    ) -> fmt::Result {
        match self.highlighted(language.unwrap_or_default(), code) {
            Some(html) => output.write_str(&html),
            None => comrak::html::escape(output, code),
        }
    }

    fn write_pre_tag(
        &self,
        output: &mut dyn fmt::Write,
        _: HashMap<&'static str, Cow<'_, str>>,
    ) -> fmt::Result {
        output.write_str("<pre>")
    }

    fn write_code_tag(
        &self,
        output: &mut dyn fmt::Write,
        _: HashMap<&'static str, Cow<'_, str>>,
    ) -> fmt::Result {
        output.write_str("<code>")
    }
}
