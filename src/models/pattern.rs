//! [`Pattern`]: the globs of `packages`, with the meaning that Verdaccio's minimatch gives them.
//!
//! `*` and `?` stay inside a segment, `**` as a whole segment crosses slashes, `[a-z]` and
//! `[!a-z]`, `{a,b}` and `{1..3}`, `!pattern`, and the extended forms `@(a|b)`, `?(a)`, `*(a)`,
//! `+(a)`, `!(a)`. Upper and lower case are the same. Checked against a corpus recorded from
//! minimatch itself.

mod braces;

/// More work than any sensible pattern needs for a name of 214 bytes.
const MAX_STEPS: u32 = 200_000;
const MAX_LENGTH: usize = 1024;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    is_negated: bool,
    alternatives: Vec<Vec<Segment>>,
    /// Whether there is a `**` that everything matches.
    has_everything: bool,
    /// The character that every match begins with, if that is certain.
    beginning: Option<char>,
}

/// The text cannot be used as a pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("pattern `{pattern}` {problem}")]
pub struct InvalidPattern {
    pattern: String,
    problem: &'static str,
}

impl InvalidPattern {
    /// What is wrong with it, to be said after it.
    pub fn problem(&self) -> &'static str {
        self.problem
    }
}

#[derive(Clone, Debug)]
enum Segment {
    /// `**`: any number of segments, also none.
    Any,
    One(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Char(char),
    AnyChar,
    Star,
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
    Group {
        kind: GroupKind,
        choices: Vec<Vec<Self>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupKind {
    One,
    Optional,
    Any,
    Many,
    Not,
}

impl Pattern {
    /// Compiles `text`.
    pub fn compile(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = |problem| InvalidPattern {
            pattern: text.chars().take(80).collect(),
            problem,
        };
        if text.is_empty() {
            return Err(invalid("is empty"));
        }
        if text.len() > MAX_LENGTH {
            return Err(invalid("is longer than 1024 bytes"));
        }
        // As in minimatch, marks at the very beginning always negate, even before a parenthesis.
        let marks = text.bytes().take_while(|&byte| byte == b'!').count();
        let body = text[marks..].to_lowercase();
        let alternatives = braces::expand(&body)
            .ok_or_else(|| invalid("has too many alternatives"))?
            .iter()
            .map(|alternative| alternative.split('/').map(segment).collect())
            .collect::<Vec<Vec<_>>>();
        Ok(Self {
            is_negated: marks % 2 == 1,
            has_everything: alternatives
                .iter()
                .any(|segments| matches!(segments.as_slice(), [Segment::Any])),
            beginning: beginning(&alternatives),
            alternatives,
        })
    }

    /// Whether `name` matches. A pattern that takes too long to decide matches nothing.
    pub fn matches(&self, name: &str) -> bool {
        // What most patterns say of most names is seen without a closer look.
        if self.has_everything {
            return !self.is_negated;
        }
        let first = || name.chars().next().into_iter().flat_map(char::to_lowercase);
        if self.beginning.is_some() && first().next() != self.beginning {
            return self.is_negated;
        }
        let name = name.to_lowercase();
        let parts: Vec<Vec<char>> = name.split('/').map(|part| part.chars().collect()).collect();
        let mut steps = Steps(MAX_STEPS);
        let matched = self
            .alternatives
            .iter()
            .any(|segments| match_segments(segments, &parts, &mut steps));
        steps.0 > 0 && matched != self.is_negated
    }
}

/// The character that all alternatives begin with.
fn beginning(alternatives: &[Vec<Segment>]) -> Option<char> {
    let mut beginnings = alternatives.iter().map(|segments| match segments.first() {
        Some(Segment::One(tokens)) => match tokens.first() {
            Some(Token::Char(character)) => Some(*character),
            _ => None,
        },
        _ => None,
    });
    let first = beginnings.next()??;
    beginnings
        .all(|other| other == Some(first))
        .then_some(first)
}

/// What is left of the work that one decision may take.
struct Steps(u32);

impl Steps {
    fn take(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

fn match_segments(segments: &[Segment], parts: &[Vec<char>], steps: &mut Steps) -> bool {
    if !steps.take() {
        return false;
    }
    match segments.split_first() {
        None => parts.is_empty(),
        // At the end it stands for at least one segment: `a/**` is what is in `a`, not `a`.
        Some((Segment::Any, [])) => !parts.is_empty(),
        Some((Segment::Any, rest)) => {
            (0..=parts.len()).any(|skipped| match_segments(rest, &parts[skipped..], steps))
        }
        Some((Segment::One(tokens), rest)) => parts.split_first().is_some_and(|(part, parts)| {
            // minimatch: a star alone does not match an empty segment.
            (!part.is_empty() || tokens.is_empty())
                && match_tokens(tokens, part, steps)
                && match_segments(rest, parts, steps)
        }),
    }
}

fn match_tokens(tokens: &[Token], text: &[char], steps: &mut Steps) -> bool {
    if !steps.take() {
        return false;
    }
    let Some((token, rest)) = tokens.split_first() else {
        return text.is_empty();
    };
    match token {
        Token::Star => (0..=text.len()).any(|taken| match_tokens(rest, &text[taken..], steps)),
        Token::Group { kind, choices } => match_group(*kind, choices, rest, text, steps),
        Token::Char(_) | Token::AnyChar | Token::Class { .. } => {
            text.split_first().is_some_and(|(&character, text)| {
                is_one(token, character) && match_tokens(rest, text, steps)
            })
        }
    }
}

fn is_one(token: &Token, character: char) -> bool {
    match token {
        Token::Char(expected) => *expected == character,
        Token::AnyChar => true,
        Token::Class { is_negated, ranges } => {
            let is_in = ranges
                .iter()
                .any(|&(low, high)| (low..=high).contains(&character));
            is_in != *is_negated
        }
        Token::Star | Token::Group { .. } => false,
    }
}

fn match_group(
    kind: GroupKind,
    choices: &[Vec<Token>],
    rest: &[Token],
    text: &[char],
    steps: &mut Steps,
) -> bool {
    match kind {
        GroupKind::One => match_choice(choices, rest, text, steps),
        GroupKind::Optional => {
            match_tokens(rest, text, steps) || match_choice(choices, rest, text, steps)
        }
        GroupKind::Any => {
            match_tokens(rest, text, steps) || match_repeated(choices, rest, text, steps)
        }
        GroupKind::Many => match_repeated(choices, rest, text, steps),
        // As minimatch has it: what stands here and after it must not be a choice and the rest.
        GroupKind::Not => {
            !match_choice(choices, rest, text, steps)
                && (0..=text.len()).any(|taken| match_tokens(rest, &text[taken..], steps))
        }
    }
}

fn match_choice(choices: &[Vec<Token>], rest: &[Token], text: &[char], steps: &mut Steps) -> bool {
    choices.iter().any(|choice| {
        (0..=text.len()).any(|taken| {
            match_tokens(choice, &text[..taken], steps) && match_tokens(rest, &text[taken..], steps)
        })
    })
}

/// One or more choices, then the rest. Every round takes at least one character.
fn match_repeated(
    choices: &[Vec<Token>],
    rest: &[Token],
    text: &[char],
    steps: &mut Steps,
) -> bool {
    choices.iter().any(|choice| {
        (0..=text.len()).any(|taken| {
            match_tokens(choice, &text[..taken], steps)
                && (match_tokens(rest, &text[taken..], steps)
                    || (taken > 0 && match_repeated(choices, rest, &text[taken..], steps)))
        })
    })
}

fn segment(text: &str) -> Segment {
    if text == "**" {
        return Segment::Any;
    }
    let characters: Vec<char> = text.chars().collect();
    Segment::One(tokens(&characters))
}

fn tokens(text: &[char]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&character) = text.get(at) {
        let (token, length) = group(&text[at..])
            .or_else(|| class(&text[at..]))
            .unwrap_or_else(|| match character {
                '*' => (Token::Star, 1),
                '?' => (Token::AnyChar, 1),
                '\\' if at + 1 < text.len() => (Token::Char(text[at + 1]), 2),
                _ => (Token::Char(character), 1),
            });
        at += length;
        // `**` inside a segment is `*`; several in a row only cost time.
        if !(matches!(token, Token::Star) && matches!(tokens.last(), Some(Token::Star))) {
            tokens.push(token);
        }
    }
    tokens
}

/// An extended group at the start of `text`, and its length.
fn group(text: &[char]) -> Option<(Token, usize)> {
    let kind = match text {
        ['@', '(', ..] => GroupKind::One,
        ['?', '(', ..] => GroupKind::Optional,
        ['*', '(', ..] => GroupKind::Any,
        ['+', '(', ..] => GroupKind::Many,
        ['!', '(', ..] => GroupKind::Not,
        _ => return None,
    };
    let mut depth = 0_usize;
    let mut start = 2;
    let mut choices = Vec::new();
    for (index, character) in text.iter().enumerate().skip(1) {
        match character {
            '(' => depth += 1,
            ')' if depth == 1 => {
                choices.push(tokens(&text[start..index]));
                return Some((Token::Group { kind, choices }, index + 1));
            }
            ')' => depth -= 1,
            '|' if depth == 1 => {
                choices.push(tokens(&text[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    None
}

/// A character class at the start of `text`, and its length.
fn class(text: &[char]) -> Option<(Token, usize)> {
    let inner = text.strip_prefix(&['['])?;
    let (is_negated, offset) = match inner.first() {
        Some('!' | '^') => (true, 1),
        _ => (false, 0),
    };
    let body = &inner[offset..];
    // A bracket right at the beginning is a member, not the end.
    let end = body
        .iter()
        .skip(1)
        .position(|&character| character == ']')?
        + 1;
    let members = &body[..end];
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        if let (Some('-'), Some(&high)) = (members.get(at + 1), members.get(at + 2)) {
            ranges.push((low, high));
            at += 3;
        } else {
            ranges.push((low, low));
            at += 1;
        }
    }
    Some((Token::Class { is_negated, ranges }, 1 + offset + end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Recorded {
        pattern: String,
        matches: Vec<String>,
        others: Vec<String>,
    }

    #[test]
    fn agrees_with_minimatch() {
        let corpus: Vec<Recorded> =
            serde_json::from_str(include_str!("../../tests/corpus/minimatch.json")).unwrap();
        assert!(corpus.len() > 40);
        for Recorded {
            pattern,
            matches,
            others,
        } in corpus
        {
            let compiled = Pattern::compile(&pattern).unwrap();
            for name in matches {
                assert!(compiled.matches(&name), "`{pattern}` has to match `{name}`");
            }
            for name in others {
                assert!(
                    !compiled.matches(&name),
                    "`{pattern}` must not match `{name}`"
                );
            }
        }
    }

    #[test]
    fn what_takes_too_long_matches_nothing() {
        let pattern = Pattern::compile(&"*(*(a)b)".repeat(20)).unwrap();
        assert!(!pattern.matches(&"a".repeat(200)));
        let negated = Pattern::compile(&format!("!{}", "*(*(a)b)".repeat(20))).unwrap();
        assert!(!negated.matches(&"a".repeat(200)));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in r"[-!@*?+(){}\[\]|,./a-c0-9\\]{1,24}", name in "[a-c@/.-]{0,24}") {
            if let Ok(compiled) = Pattern::compile(&pattern) {
                compiled.matches(&name);
            }
        }

        #[test]
        fn a_plain_name_matches_itself_alone(name in "[a-z][a-z0-9-]{0,20}", other in "[a-z]{1,20}") {
            let compiled = Pattern::compile(&name).unwrap();
            prop_assert!(compiled.matches(&name));
            prop_assert!(compiled.matches(&name.to_uppercase()));
            prop_assert_eq!(compiled.matches(&other), name == other);
        }
    }
}
