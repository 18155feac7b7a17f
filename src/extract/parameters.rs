//! Which parameter of which macro is a link, where its value is text. What stands in it as an `ri:` element always is.

use super::{Content, Target, paths};

/// Their text is code.
const CODE: &[&str] = &["code", "noformat", "codeblock", "html", "style", "markdown", "plantuml", "math"];
/// How names of parameters with a URL end.
const URLS: &[&str] = &["url", "uri", "src", "href", "link"];
/// Macros whose parameter without a name is a URL.
const BY_URL: &[&str] = &["widget", "iframe", "html-include", "rss", "gadget", "jiraissues", "im", "multimedia"];
/// Macro, and the parameter that names a page by its title, perhaps as `SPACE:Title`.
const PAGES: &[(&str, &str)] = &[
    ("include", ""),
    ("include", "page"),
    ("excerpt-include", ""),
    ("excerpt-include", "page"),
    ("children", "page"),
    ("pagetree", "root"),
    ("pagetreesearch", "rootPage"),
    ("attachments", "page"),
    ("gallery", "page"),
    ("table-excerpt-include", "page"),
    ("multiexcerpt-include", "page"),
    ("multiexcerpt-include-macro", "page"),
    ("viewpdf", "page"),
    ("viewdoc", "page"),
    ("viewxls", "page"),
    ("viewppt", "page"),
    ("view-file", "page"),
];
/// Macro, and the parameter that names a file by its name.
const FILES: &[(&str, &str)] = &[
    ("viewpdf", "name"),
    ("viewdoc", "name"),
    ("viewxls", "name"),
    ("viewppt", "name"),
    ("view-file", "name"),
    ("multimedia", "name"),
];
/// The most bytes that a title or a file name has in Confluence: 255 characters.
const NAME_BYTES_MAX: usize = 1024;

/// What a parameter's text leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads<'t> {
    Url(&'t str),
    Target(Target),
}

/// Whether the macro's parameters are about code.
pub(super) fn is_code(name: &str) -> bool {
    CODE.contains(&name)
}

/// What the text of that parameter of that macro leads to, if it is a link.
pub(super) fn leads<'t>(name: &str, parameter: &str, value: &'t str) -> Option<Leads<'t>> {
    let value = value.trim();
    if value.is_empty() || is_code(name) {
        return None;
    }
    if is_url_parameter(name, parameter) && is_url(value) {
        return Some(Leads::Url(value));
    }
    if value.len() > NAME_BYTES_MAX {
        return None;
    }
    let is = |(of, named): &(&str, &str)| *of == name && *named == parameter;
    if PAGES.iter().any(is) {
        return page(value).map(|page| Leads::Target(Target::Content(page)));
    }
    if FILES.iter().any(is) {
        return Some(Leads::Target(Target::Attachment { file: value.to_owned(), of: None }));
    }
    if name == "jira" && parameter == "key" && paths::is_issue_key(value) {
        return Some(Leads::Target(Target::Issue { issue: value.to_owned() }));
    }
    None
}

fn is_url_parameter(name: &str, parameter: &str) -> bool {
    if parameter.is_empty() {
        return BY_URL.contains(&name);
    }
    let end = |of: &str| {
        let at = parameter.len().checked_sub(of.len());
        at.and_then(|at| parameter.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(of))
    };
    URLS.iter().any(|of| end(of))
}

/// Parameters hold other things under such names, too: only what starts like a URL is one.
fn is_url(value: &str) -> bool {
    let starts = |prefix: &str| value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let is_web = starts("http://") || starts("https://") || value.starts_with('/');
    is_web && !value.contains(char::is_whitespace)
}

/// Whether a title is none, but says where to look from here.
pub(super) fn is_relative(title: &str) -> bool {
    matches!(title, "@self" | "@home" | "@parent" | "@none")
}

/// `Title`, `SPACE:Title`.
fn page(value: &str) -> Option<Content> {
    if is_relative(value) {
        return None;
    }
    let is_space = |key: &str| {
        let key = key.strip_prefix('~').unwrap_or(key);
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "._@-".contains(c))
    };
    Some(match value.split_once(':') {
        Some((space, title)) if is_space(space) && !title.is_empty() && !title.starts_with(' ') => {
            Content::Page { space: Some(space.to_owned()), title: title.to_owned() }
        }
        _ => Content::Page { space: None, title: value.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_told_from_a_space_and_a_title() {
        let cases = [
            ("Home", None, "Home"),
            ("DOC:Home", Some("DOC"), "Home"),
            ("~anna:Home", Some("~anna"), "Home"),
            ("Part 2: the end", None, "Part 2: the end"),
            ("Note: see below", None, "Note: see below"),
        ];
        for (value, space, title) in cases {
            let expected = Content::Page { space: space.map(ToOwned::to_owned), title: title.to_owned() };
            assert_eq!(page(value), Some(expected), "{value}");
        }
        assert_eq!(page("@home"), None);
    }

    #[test]
    fn only_what_starts_like_a_url_is_one() {
        for (parameter, value) in [("url", "https://a.example/"), ("imageUrl", "HTTP://a"), ("src", "/wiki/x/abc")] {
            assert_eq!(leads("widget", parameter, value), Some(Leads::Url(value)));
        }
        for (parameter, value) in [("url", "yes"), ("title", "https://a.example/"), ("link", "a b"), ("é", "https://a")]
        {
            assert_eq!(leads("panel", parameter, value), None);
        }
        assert_eq!(leads("code", "url", "https://a.example/"), None);
    }
}
