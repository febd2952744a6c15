//! Links within the documentation.

use std::path::{Component, Path, PathBuf};

use super::pages::Page;

/// Links of `pages` that lead nowhere, and those of the book that lead out of it.
pub(super) fn problems(root: &Path, pages: &[Page]) -> Vec<String> {
    let mut problems = Vec::new();
    for page in pages {
        let inside = page.links.iter().filter(|link| !is_elsewhere(link));
        for link in inside {
            if let Some(problem) = problem(root, pages, page, link) {
                problems.push(format!("{}: {problem}", page.name));
            }
        }
    }
    problems
}

fn is_elsewhere(link: &str) -> bool {
    ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme))
}

fn problem(root: &Path, pages: &[Page], page: &Page, link: &str) -> Option<String> {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.name.clone(),
        _ => target(&page.name, path),
    };
    if !root.join(&target).exists() {
        return Some(format!("{target} is not there"));
    }
    if page.name.starts_with("docs/") && !target.starts_with("docs/") {
        return Some(format!("{target} is not part of the book"));
    }
    if heading.is_empty() {
        return None;
    }
    let other = pages.iter().find(|other| other.name == target);
    let is_there = other.is_some_and(|other| other.headings.iter().any(|known| known == heading));
    (!is_there).then(|| format!("{target} has no heading #{heading}"))
}

/// The file that `link` on the page `name` means, from the root on.
fn target(name: &str, link: &str) -> String {
    let mut path = PathBuf::from(name);
    path.pop();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path.to_str().unwrap().to_owned()
}

/// Pages below `docs` that `SUMMARY.md` does not have exactly once.
pub(super) fn problems_of_the_book(pages: &[Page]) -> Vec<String> {
    const SUMMARY: &str = "docs/SUMMARY.md";
    let summary = pages.iter().find(|page| page.name == SUMMARY).unwrap();
    let of_the_book = pages
        .iter()
        .map(|page| page.name.as_str())
        .filter(|name| name.starts_with("docs/") && *name != SUMMARY);
    let problem = |name: &str| {
        let links = summary.links.iter();
        let count = links.filter(|link| target(SUMMARY, link) == name).count();
        (count != 1).then(|| format!("{SUMMARY} has {name} {count} times"))
    };
    of_the_book.filter_map(problem).collect()
}
