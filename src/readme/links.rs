//! [`Links`]: where the relative links of a README lead.

use url::Url;

use super::ID_PREFIX;

/// Where the relative links of a README lead: into the repository that its package names.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The folder of the README there, and the root of the repository.
    base: Option<(Url, Url)>,
}

impl Links {
    /// Into `repository`, as `repository.url` of a manifest says it, with the package in `directory`
    /// (npm's documentation of `package.json`).
    pub fn of(repository: Option<&str>, directory: Option<&str>) -> Self {
        let base = repository.and_then(browsable).and_then(|url| {
            let tree = match url.host_str()? {
                "gitlab.com" => "-/blob/HEAD/",
                "bitbucket.org" => "src/HEAD/",
                _ => "blob/HEAD/",
            };
            let root = url.join(tree).ok()?;
            let directory = directory.unwrap_or_default().trim_matches('/');
            let folder = if directory.is_empty() {
                root.clone()
            } else {
                root.join(&format!("{directory}/")).ok()?
            };
            folder
                .path()
                .starts_with(root.path())
                .then_some((folder, root))
        });
        Self { base }
    }

    /// Where `link` leads, which has no scheme; `None` where that is not known.
    pub(super) fn resolve(&self, link: &str) -> Option<String> {
        if let Some(id) = link.strip_prefix('#') {
            return Some(format!("#{ID_PREFIX}{id}"));
        }
        if link.starts_with("//") || link.starts_with('\\') {
            return None;
        }
        let (folder, root) = self.base.as_ref()?;
        let url = match link.strip_prefix('/') {
            Some(path) => root.join(path.trim_start_matches(['/', '\\'])).ok()?,
            None => folder.join(link).ok()?,
        };
        (url.origin() == root.origin()).then(|| url.into())
    }
}

/// The address at which a browser shows a repository, with a slash at its end: `git+https`, `git`, `ssh` and
/// the short forms of npm (`github:a/b`, `a/b`) lead there too.
pub fn browsable(repository: &str) -> Option<Url> {
    let text = repository.trim().trim_start_matches("git+");
    let text = text.strip_suffix(".git").unwrap_or(text);
    let hosts = [
        ("github:", "https://github.com/"),
        ("gitlab:", "https://gitlab.com/"),
        ("bitbucket:", "https://bitbucket.org/"),
        ("git@github.com:", "https://github.com/"),
        ("git@gitlab.com:", "https://gitlab.com/"),
        ("git@bitbucket.org:", "https://bitbucket.org/"),
    ];
    let short = hosts
        .into_iter()
        .find_map(|(prefix, host)| Some(format!("{host}{}", text.strip_prefix(prefix)?)));
    let is_path = || text.split('/').count() == 2 && !text.contains(':');
    let address = match short {
        Some(address) => address,
        None if is_path() => format!("https://github.com/{text}"),
        None => text
            .replace("ssh://git@", "https://")
            .replacen("git://", "https://", 1),
    };
    let mut url = Url::parse(&address).ok()?;
    let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
    if !is_web || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_found_however_they_are_written() {
        for text in [
            "git+https://github.com/a/b.git",
            "https://github.com/a/b/",
            "git://github.com/a/b.git",
            "git+ssh://git@github.com/a/b.git",
            "git@github.com:a/b.git",
            "github:a/b",
            "a/b",
        ] {
            let url = browsable(text).map(String::from);
            assert_eq!(url.as_deref(), Some("https://github.com/a/b/"), "{text}");
        }
        for text in [
            "",
            "javascript:alert(1)",
            "file:///etc",
            "a/b/c",
            "https://u:p@h.example/a",
        ] {
            assert_eq!(browsable(text), None, "{text}");
        }
    }

    #[test]
    fn links_stay_in_the_repository() {
        let links = Links::of(Some("a/b"), Some("packages/c"));
        let resolve = |link: &str| links.resolve(link).unwrap_or_default();
        assert_eq!(
            resolve("x.md"),
            "https://github.com/a/b/blob/HEAD/packages/c/x.md"
        );
        assert_eq!(
            resolve("../x.md"),
            "https://github.com/a/b/blob/HEAD/packages/x.md"
        );
        assert_eq!(
            resolve("/x.md#y"),
            "https://github.com/a/b/blob/HEAD/x.md#y"
        );
        assert_eq!(resolve("//evil.example/x"), "");
        assert_eq!(resolve("\\\\evil.example/x"), "");
        assert_eq!(
            resolve("/\\evil.example/x"),
            "https://github.com/a/b/blob/HEAD/evil.example/x"
        );
        assert_eq!(Links::default().resolve("x.md"), None);
    }
}
