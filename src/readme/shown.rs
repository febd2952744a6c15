//! [`Readmes`]: READMEs as pages show them, kept for whoever comes next.

use std::{borrow::Cow, sync::Arc};

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::{Links, to_html};
use crate::{
    error::{BoxError, RegistryError},
    lifecycle::compute,
};

/// How much of a README a page shows unless it is asked for all of it, in bytes: it takes about a third of a
/// millisecond for each thousand.
const BEGINNING: usize = 64 * 1024;
/// How much of them is kept, in bytes of HTML.
const KEPT: u64 = 16 * 1024 * 1024;
/// Definitions of links in the rest of a README that its beginning may need.
const MAX_DEFINITIONS: usize = 500;

/// A README as a page shows it.
#[derive(Clone, Debug)]
pub struct Readme {
    /// HTML in which nothing is active.
    pub html: Arc<str>,
    /// Whether there is more of it.
    pub is_cut: bool,
}

/// READMEs as they were shown.
#[derive(Debug)]
pub struct Readmes {
    html: Cache<[u8; 32], Arc<str>>,
    /// Texts that were looked for in tarballs, by their integrity.
    texts: Cache<String, Option<Arc<str>>>,
}

impl Default for Readmes {
    fn default() -> Self {
        let weight = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let of_html = move |_: &[u8; 32], html: &Arc<str>| weight(html.len());
        let of_text = move |integrity: &String, text: &Option<Arc<str>>| {
            weight(integrity.len() + text.as_ref().map_or(0, |text| text.len()))
        };
        let kept = Cache::builder().max_capacity(KEPT);
        Self {
            html: kept.weigher(of_html).build(),
            texts: Cache::builder().max_capacity(KEPT).weigher(of_text).build(),
        }
    }
}

impl Readmes {
    /// What `look` finds in the tarball with this integrity, which is looked at once.
    pub async fn in_tarball(
        &self,
        integrity: &str,
        look: impl Future<Output = Result<Option<String>, RegistryError>>,
    ) -> Result<Option<Arc<str>>, RegistryError> {
        if let Some(known) = self.texts.get(integrity) {
            return Ok(known);
        }
        let text: Option<Arc<str>> = look.await?.map(Into::into);
        if !integrity.is_empty() {
            self.texts.insert(integrity.to_owned(), text.clone());
        }
        Ok(text)
    }

    /// The README `markdown`, with its links as `links` say: all of it if `is_whole`, or its beginning.
    pub async fn show(
        &self,
        markdown: &str,
        links: Links,
        is_whole: bool,
    ) -> Result<Readme, BoxError> {
        let text = if is_whole {
            Cow::Borrowed(markdown)
        } else {
            beginning(markdown)
        };
        let is_cut = matches!(text, Cow::Owned(_));
        let key = Sha256::new()
            .chain_update(format!("{links:?}\0"))
            .chain_update(&*text)
            .finalize()
            .into();
        if let Some(html) = self.html.get(&key) {
            return Ok(Readme { html, is_cut });
        }
        let text = text.into_owned();
        let html: Arc<str> = compute(move || to_html(&text, &links)).await?.into();
        self.html.insert(key, Arc::clone(&html));
        Ok(Readme { html, is_cut })
    }
}

/// The beginning of `markdown` up to the end of a paragraph, with the links that are defined after it; all of it
/// where that is not too long.
fn beginning(markdown: &str) -> Cow<'_, str> {
    if markdown.len() <= BEGINNING {
        return Cow::Borrowed(markdown);
    }
    let (first, _) = markdown.split_at(markdown.floor_char_boundary(BEGINNING));
    let end = first.rfind("\n\n").filter(|end| *end > BEGINNING / 2);
    let (first, rest) = markdown.split_at(end.unwrap_or(first.len()));
    let is_definition =
        |line: &&str| line.len() < 1000 && line.starts_with('[') && line.contains("]: ");
    let definitions = rest.lines().filter(is_definition).take(MAX_DEFINITIONS);
    let mut text = format!("{first}\n\n");
    for line in definitions {
        text.push_str(line);
        text.push('\n');
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tarball_is_looked_at_once() {
        let readmes = Readmes::default();
        let found = async { Ok(Some("text".to_owned())) };
        let first = readmes.in_tarball("sha512-a", found).await.unwrap();
        let again = async { panic!("it was looked at") };
        let second = readmes.in_tarball("sha512-a", again).await.unwrap();
        assert_eq!((first.as_deref(), second), (Some("text"), first.clone()));
    }

    #[tokio::test]
    async fn a_long_one_is_shown_in_part_until_all_of_it_is_wanted() {
        let readmes = Readmes::default();
        let show = async |text: &str, is_whole| {
            let shown = readmes.show(text, Links::default(), is_whole).await;
            shown.unwrap()
        };
        let short = show("# a", false).await;
        assert!(!short.is_cut && short.html.contains("id=\"readme-a\""));
        let paragraph = "one [thing][here] after another\n\n";
        let long = format!(
            "{}the end\n\n[here]: https://example.com/there\n",
            paragraph.repeat(3000)
        );
        for _ in 0..2 {
            let cut = show(&long, false).await;
            assert!(cut.is_cut && !cut.html.contains("the end"));
            assert!(cut.html.contains("href=\"https://example.com/there\""));
            assert!(!cut.html.contains("[here]"));
            let whole = show(&long, true).await;
            assert!(!whole.is_cut && whole.html.contains("the end"));
        }
        assert!(beginning(&"ü".repeat(BEGINNING)).len() <= BEGINNING + 2);
    }
}
