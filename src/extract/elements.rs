//! The names of storage format that matter for links. All others are plain.

use super::Appearance;

/// What an element is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// It only holds others.
    Plain,
    /// HTML lets it stand without an end (`<br>`), as bodies of other tools do.
    Void,
    A,
    Img,
    Frame,
    /// It may be the frame of a smart link.
    Div,
    Link,
    Image,
    Macro,
    /// `ac:parameter` and its older and newer kin.
    Parameter,
    Resource(Resource),
    /// Text that is no markup, or what Confluence renders twice: nothing in it is a link.
    Opaque,
}

/// The `ri:` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Page,
    BlogPost,
    Content,
    Space,
    Attachment,
    Url,
    Shortcut,
    /// Nobody follows it: a mention.
    User,
}

impl Element {
    pub(super) fn named(name: &str) -> Self {
        match name.as_bytes() {
            [b'a', b'c', b':', rest @ ..] => Self::of_confluence(rest),
            [b'r', b'i', b':', rest @ ..] => Self::of_resource(rest),
            b"a" | b"A" => Self::A,
            b"div" => Self::Div,
            b"img" => Self::Img,
            b"iframe" => Self::Frame,
            b"br" | b"hr" | b"col" | b"wbr" | b"input" | b"meta" | b"source" => Self::Void,
            b"script" | b"style" => Self::Opaque,
            _ => Self::Plain,
        }
    }

    /// Whether it may stand without an end.
    pub(super) fn is_void(self) -> bool {
        matches!(self, Self::Void | Self::Img)
    }

    fn of_confluence(name: &[u8]) -> Self {
        match name {
            b"link" => Self::Link,
            b"image" => Self::Image,
            b"structured-macro" | b"macro" | b"adf-node" => Self::Macro,
            b"parameter" | b"default-parameter" | b"adf-parameter" | b"adf-attribute" => Self::Parameter,
            b"plain-text-body" | b"adf-fallback" | b"placeholder" => Self::Opaque,
            _ => Self::Plain,
        }
    }

    fn of_resource(name: &[u8]) -> Self {
        Self::Resource(match name {
            b"page" => Resource::Page,
            b"blog-post" => Resource::BlogPost,
            b"content-entity" => Resource::Content,
            b"space" => Resource::Space,
            b"attachment" => Resource::Attachment,
            b"url" => Resource::Url,
            b"shortcut" => Resource::Shortcut,
            b"user" => Resource::User,
            _ => return Self::Plain,
        })
    }
}

impl Appearance {
    /// As the attributes `data-card-appearance` and `ac:card-appearance` write it.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "inline" => Some(Self::Inline),
            "block" | "card" => Some(Self::Block),
            "embed" => Some(Self::Embed),
            _ => None,
        }
    }
}
