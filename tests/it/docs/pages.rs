//! Pages of the documentation, taken apart.

use std::{
    fs,
    path::{Path, PathBuf},
};

use comrak::{
    Arena, Options,
    nodes::{AstNode, NodeValue},
    parse_document,
};

/// Pages outside of the book.
const OUTSIDE: [&str; 6] = [
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "bench/README.md",
];

#[derive(Debug, Default)]
pub(super) struct Page {
    /// Its path from the root of the repository.
    pub(super) name: String,
    pub(super) text: String,
    /// Where its links and pictures lead.
    pub(super) links: Vec<String>,
    /// Its headings, as links name them.
    pub(super) headings: Vec<String>,
    /// Code within sentences.
    pub(super) code: Vec<String>,
    pub(super) blocks: Vec<Block>,
}

/// A block of code.
#[derive(Debug)]
pub(super) struct Block {
    /// What stands after the fence.
    pub(super) info: String,
    pub(super) text: String,
}

/// All pages below `root`.
pub(super) fn pages(root: &Path) -> Vec<Page> {
    let mut files: Vec<PathBuf> = OUTSIDE.iter().map(|name| root.join(name)).collect();
    files.extend(markdown_below(&root.join("docs")));
    files.retain(|file| file.is_file());
    files.iter().map(|file| page(root, file)).collect()
}

fn markdown_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(markdown_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn page(root: &Path, file: &Path) -> Page {
    let name = file.strip_prefix(root).unwrap().to_str().unwrap();
    let mut page = Page {
        name: name.to_owned(),
        text: fs::read_to_string(file).unwrap(),
        ..Page::default()
    };
    let arena = Arena::new();
    let mut options = Options::default();
    options.extension.table = true;
    let text = page.text.clone();
    take_apart(parse_document(&arena, &text, &options), &mut page);
    page
}

fn take_apart<'a>(node: &'a AstNode<'a>, page: &mut Page) {
    match &node.data.borrow().value {
        NodeValue::Link(link) | NodeValue::Image(link) => page.links.push(link.url.clone()),
        NodeValue::Heading(_) => {
            let mut text = String::new();
            text_of(node, &mut text);
            let name = anchor(&text);
            let before = page.headings.iter().filter(|known| **known == name).count();
            page.headings.push(match before {
                0 => name,
                _ => format!("{name}-{before}"),
            });
        }
        NodeValue::Code(code) => page.code.push(code.literal.clone()),
        NodeValue::CodeBlock(block) => page.blocks.push(Block {
            info: block.info.clone(),
            text: block.literal.clone(),
        }),
        _ => {}
    }
    for child in node.children() {
        take_apart(child, page);
    }
}

fn text_of<'a>(node: &'a AstNode<'a>, text: &mut String) {
    match &node.data.borrow().value {
        NodeValue::Text(words) => text.push_str(words),
        NodeValue::Code(code) => text.push_str(&code.literal),
        _ => {}
    }
    for child in node.children() {
        text_of(child, text);
    }
}

/// A heading as mdBook and code hosts name it: in small letters, without signs, with `-` for spaces.
fn anchor(heading: &str) -> String {
    let signs = heading.to_lowercase();
    let signs = signs.chars().filter_map(|sign| match sign {
        ' ' => Some('-'),
        '-' | '_' => Some(sign),
        _ => sign.is_alphanumeric().then_some(sign),
    });
    signs.collect()
}
