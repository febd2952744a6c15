//! [`Language`]: the words of pages, from one file for each language in `messages/`.

use std::{collections::HashMap, sync::LazyLock};

use http::{HeaderMap, header};

/// The words of one language.
#[derive(Debug)]
pub(in crate::web) struct Language {
    /// Its tag, as in `lang` (BCP 47).
    pub(in crate::web) tag: &'static str,
    words: HashMap<String, String>,
}

/// The files. The first has every word; what another lacks is said in its words.
const FILES: [(&str, &str); 6] = [
    ("en", include_str!("../../../messages/en.yml")),
    ("de", include_str!("../../../messages/de.yml")),
    ("es", include_str!("../../../messages/es.yml")),
    ("fr", include_str!("../../../messages/fr.yml")),
    ("zh", include_str!("../../../messages/zh.yml")),
    ("ja", include_str!("../../../messages/ja.yml")),
];

static LANGUAGES: LazyLock<Vec<Language>> = LazyLock::new(|| {
    let languages = FILES.iter().map(|(tag, text)| Language {
        tag,
        // A test reads each of them.
        words: serde_saphyr::from_str(text).unwrap_or_default(),
    });
    languages.collect()
});

impl Language {
    /// The one that a browser likes best of those that there are, or else that with the tag `otherwise`.
    pub(in crate::web) fn of(headers: &HeaderMap, otherwise: &str) -> &'static Self {
        let wanted = headers.get(header::ACCEPT_LANGUAGE);
        let wanted = wanted.and_then(|value| value.to_str().ok());
        let mut best: Option<(&Self, f32)> = None;
        for wish in wanted.unwrap_or_default().split(',').take(20) {
            let (tag, quality) = match wish.split_once(";q=") {
                Some((tag, quality)) => (tag, quality.trim().parse().unwrap_or(0.0)),
                None => (wish, 1.0),
            };
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let known = LANGUAGES
                .iter()
                .find(|language| language.tag.eq_ignore_ascii_case(primary));
            if let Some(language) = known
                && quality > best.map_or(0.0, |(_, quality)| quality)
            {
                best = Some((language, quality));
            }
        }
        let otherwise = || LANGUAGES.iter().find(|language| language.tag == otherwise);
        let best = best.map(|(language, _)| language);
        best.or_else(otherwise).unwrap_or(&LANGUAGES[0])
    }

    /// The words of `key`; those of English, where this language has none yet.
    pub(in crate::web) fn say(&self, key: &str) -> &str {
        let words = self.words.get(key);
        words
            .or_else(|| LANGUAGES.first()?.words.get(key))
            .map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(accept: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
        Language::of(&headers, "en").tag
    }

    #[test]
    fn browsers_get_what_they_like_best() {
        assert_eq!(best("de-AT,de;q=0.9,en;q=0.8"), "de");
        assert_eq!(best("nl,fr;q=0.3,es;q=0.7"), "es");
        assert_eq!(best("zh-Hant-TW"), "zh");
        assert_eq!(best("nl"), "en");
        assert_eq!(best("de;q=0,ja;q=x"), "en");
        assert_eq!(Language::of(&HeaderMap::new(), "de").tag, "de");
        assert_eq!(Language::of(&HeaderMap::new(), "xx").tag, "en");
        assert_eq!(FILES.map(|(tag, _)| tag), crate::config::LANGUAGES);
    }

    #[test]
    fn all_files_have_the_same_words() {
        let english: HashMap<String, String> = serde_saphyr::from_str(FILES[0].1).unwrap();
        for (tag, text) in FILES {
            let words: HashMap<String, String> = serde_saphyr::from_str(text).unwrap();
            for (key, said) in &words {
                assert!(english.contains_key(key), "{tag}: nobody says {key}");
                assert!(!said.trim().is_empty(), "{tag}: {key} is empty");
            }
            let missing = english.keys().filter(|key| !words.contains_key(*key));
            assert_eq!(missing.count(), 0, "{tag} lacks words");
        }
    }

    /// What templates ask for is there.
    #[test]
    fn every_word_of_a_template_is_in_the_files() {
        let english: HashMap<String, String> = serde_saphyr::from_str(FILES[0].1).unwrap();
        let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        let mut asked = 0;
        for entry in std::fs::read_dir(templates).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split(".say(\"").skip(1) {
                let key = part.split('"').next().unwrap();
                assert!(english.contains_key(key), "{}: {key}", path.display());
                asked += 1;
            }
        }
        assert!(asked > 20, "templates are elsewhere by now");
    }
}
