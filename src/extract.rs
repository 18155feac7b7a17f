//! The links of a Confluence page, out of its body.
//!
//! In goes a body, as storage format (XHTML with `ac:` and `ri:` elements) or as ADF (`atlas_doc_format`, JSON), and a
//! [`Context`] that says what the page's site is called. Out come its [`Link`]s in order of first occurrence.
//!
//! Pure and sync: no I/O, no clock, nothing is fetched, no title is resolved to an id. Real bodies are broken now and
//! then, so nothing here fails: what was found is kept, and a [`Flaw`] says what could not be read. It never looks for
//! URLs in text, in code, in comments, or in what Confluence renders twice (`ac:adf-fallback`).
//!
//! Whatever bytes come in, time is linear in their number, and memory is bounded by the limits below: there is no
//! recursion, no entity is expanded into another, and what is too much is left out and told as a flaw.
//!
//! | file | what |
//! | --- | --- |
//! | `site` | the context, and what a URL leads to: this site, its Jira, elsewhere |
//! | `paths` | the forms of Confluence's own URLs, tiny links included |
//! | `collect` | merges duplicates, keeps order and limits |
//! | `storage`, `tag`, `elements` | the reader of storage format: which element ends where, attributes, known names |
//! | `constructs` | which elements make a link |
//! | `parameters` | which parameter of which macro is a link |
//! | `adf` | the reader of ADF |
//! | `text` | entities and blanks |

mod adf;
mod collect;
mod constructs;
mod elements;
mod parameters;
mod paths;
mod site;
mod storage;
mod tag;
mod text;

#[cfg(test)]
mod tests;

pub use adf::links_of_adf;
pub use site::{Context, NotABaseUrl};
pub use storage::links_of_storage;

use std::fmt;

use serde::{Serialize, Serializer};

/// Bytes of a body that are read.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Elements that may be open at once. Of what lies deeper, only `<a>` and images are found, and without their text.
pub const DEPTH_MAX: usize = 131_072;
/// Faults of syntax that are stepped over. At the next one, reading ends.
pub const RECOVERIES_MAX: usize = 64;
/// Links of a page, after duplicates are merged.
pub const LINKS_MAX: usize = 10_000;
/// Bytes of all URLs, targets, anchors and texts of a page together.
pub const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of one URL, title, file name or anchor. A link with a longer one is left out, as half a URL leads elsewhere.
pub const URL_BYTES_MAX: usize = 8 * 1024;
/// Bytes that are kept of a macro's name.
pub const MACRO_NAME_BYTES_MAX: usize = 128;
/// Characters that are kept of a link's text.
pub const TEXT_CHARS_MAX: usize = 250;

/// What was found in a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extraction {
    /// In order of first occurrence.
    pub links: Vec<Link>,
    /// Each kind of flaw once, where it was seen first.
    pub flaws: Vec<Flaw>,
}

impl Extraction {
    /// Whether the whole body was read as it was meant, so that no link can be missing.
    pub fn is_complete(&self) -> bool {
        self.flaws.is_empty()
    }
}

/// One destination, as reached by one construct. It serialises to a line of `hookcache confluence links`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    pub kind: Kind,
    /// Absolute where the site's base URL makes it so; otherwise as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What of Confluence or Jira it names, as far as the body itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What a reader sees: the link's text, an image's alternative text. Blanks are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    pub origin: Origin,
    /// The place in the page that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// How often it occurs.
    pub count: u32,
    /// Where it occurs first: a number that never falls through the page.
    #[serde(skip)]
    pub position: u32,
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Another host, by http or https.
    External,
    /// A page, blog post, space or other place of this Confluence site.
    Internal,
    /// A file attached to a page of this site.
    Attachment,
    /// A picture that the page shows, from an attachment or a URL.
    Image,
    /// A URL elsewhere whose content a macro shows.
    Macro,
    /// `mailto:`.
    Mail,
    /// An issue, or another place of the Jira beside this site.
    Jira,
    /// A place in this page.
    Anchor,
    /// Any other scheme (`tel:`, `ftp:`, `file:`), a shortcut, or a relative URL that names no place of Confluence.
    Other,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::External,
        Self::Internal,
        Self::Attachment,
        Self::Image,
        Self::Macro,
        Self::Mail,
        Self::Jira,
        Self::Anchor,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Internal => "internal",
            Self::Attachment => "attachment",
            Self::Image => "image",
            Self::Macro => "macro",
            Self::Mail => "mail",
            Self::Jira => "jira",
            Self::Anchor => "anchor",
            Self::Other => "other",
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The construct that a link was written as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `<a href>`; in ADF the mark `link`.
    A,
    /// `<ac:link>`.
    Link,
    /// Either of them shown as a card.
    Smart(Appearance),
    /// `<ac:image>`, `<img>`; in ADF media.
    Image,
    /// A parameter of the macro of that name.
    Macro(String),
    /// `<iframe src>` without a macro.
    Frame,
    /// An `ri:` element without a link around it.
    Resource,
}

/// How a smart link shows what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Appearance {
    Inline,
    Block,
    Embed,
}

impl Origin {
    fn of_macro(name: &str) -> Self {
        Self::Macro(name[..name.floor_char_boundary(MACRO_NAME_BYTES_MAX)].to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::Link => "link",
            Self::Smart(Appearance::Inline) => "smart-inline",
            Self::Smart(Appearance::Block) => "smart-block",
            Self::Smart(Appearance::Embed) => "smart-embed",
            Self::Image => "image",
            Self::Macro(name) => return write!(f, "macro:{name}"),
            Self::Frame => "iframe",
            Self::Resource => "resource",
        })
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a link names. A space that is not said is the page's own, and filled in where the context knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// A file; `of` is the page that holds it, where that is known.
    Attachment {
        file: String,
        #[serde(rename = "page", skip_serializing_if = "Option::is_none")]
        of: Option<Content>,
    },
    Content(Content),
    Space {
        space: String,
    },
    /// A file by the id of Atlassian's media service: all that ADF says.
    Media {
        media: String,
    },
    Issue {
        issue: String,
    },
    /// A shortcut that an administrator defined, not resolved.
    Shortcut {
        shortcut: String,
        parameter: String,
    },
}

/// A page, blog post or other content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Content {
    Id {
        #[serde(serialize_with = "as_text")]
        id: u64,
    },
    Page {
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<String>,
        title: String,
    },
    BlogPost {
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<String>,
        title: String,
        /// `2026/03/01`.
        day: String,
    },
}

/// Atlassian writes ids as text, as they are larger than a JavaScript number.
fn as_text<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// Why links may be missing, or stand with the wrong text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw {
    pub kind: FlawKind,
    /// Where it was seen first, in bytes from the start of the body.
    pub at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlawKind {
    /// The body is longer than [`BODY_BYTES_MAX`].
    TooLong,
    NotUtf8,
    /// A tag, comment or CDATA section without an end, or a `<` that starts none; or no ADF.
    Syntax,
    /// An element that is not closed, or closed in the wrong order.
    Unbalanced,
    /// More than [`DEPTH_MAX`] elements within each other; in ADF, about 60 nodes.
    TooDeep,
    /// A URL, title or file name longer than [`URL_BYTES_MAX`].
    LinkTooLong,
    /// More links than [`LINKS_MAX`], or more bytes of them than [`KEPT_BYTES_MAX`].
    TooManyLinks,
}

impl FlawKind {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::NotUtf8 => "not-utf8",
            Self::Syntax => "syntax",
            Self::Unbalanced => "unbalanced",
            Self::TooDeep => "too-deep",
            Self::LinkTooLong => "link-too-long",
            Self::TooManyLinks => "too-many-links",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, at } = self;
        match kind {
            FlawKind::TooLong => write!(f, "only the first {BODY_BYTES_MAX} bytes are read"),
            FlawKind::NotUtf8 => write!(f, "not UTF-8 at byte {at}"),
            FlawKind::Syntax => write!(f, "not readable at byte {at}"),
            FlawKind::Unbalanced => write!(f, "an element is not closed, or closed in the wrong order, at byte {at}"),
            FlawKind::TooDeep => write!(f, "nested too deep at byte {at}"),
            FlawKind::LinkTooLong => {
                write!(f, "a link of more than {URL_BYTES_MAX} bytes is left out at byte {at}")
            }
            FlawKind::TooManyLinks => {
                write!(f, "more than {LINKS_MAX} links, or {KEPT_BYTES_MAX} bytes of them, at byte {at}")
            }
        }
    }
}
