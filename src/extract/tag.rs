//! A start tag of storage format: its name, its attributes, and what an `ri:` element says by them.

use std::borrow::Cow;

use quick_xml::events::BytesStart;
use quick_xml::events::attributes::Attributes;

use super::elements::Resource;
use super::parameters::is_relative;
use super::text::decoded;
use super::{Appearance, Content, Target};

/// A start tag.
pub(super) struct Tag<'b> {
    /// Between `<` and `>`, or `/>`.
    content: &'b str,
    name_bytes: usize,
}

impl<'b> Tag<'b> {
    /// The tag whose `<` stands at that byte, unless its name is none.
    pub(super) fn at(body: &'b str, at: usize, tag: &BytesStart<'_>) -> Option<Self> {
        let (bytes, name_bytes) = (tag.len(), tag.name().0.len());
        let content = body.get(at + 1..at + 1 + bytes)?;
        let is_name = |c: char| c.is_alphabetic() || c == '_' || c == ':';
        content.get(..name_bytes)?.starts_with(is_name).then_some(Self { content, name_bytes })
    }

    pub(super) fn name(&self) -> &'b str {
        &self.content[..self.name_bytes]
    }

    /// The value of an attribute, its references replaced.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'b, str>> {
        let mut attributes = Attributes::html(self.content, self.name_bytes);
        attributes.with_checks(false);
        let value = attributes.flatten().find(|attribute| attribute.key.0.eq_ignore_ascii_case(name))?.value;
        Some(match value {
            Cow::Borrowed(raw) => decoded(raw),
            Cow::Owned(raw) => decoded(&raw).into_owned().into(),
        })
    }

    fn named(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn appearance(&self, name: &str) -> Option<Appearance> {
        Appearance::named(&self.get(name)?)
    }

    pub(super) fn resource(&self, resource: Resource) -> To<'b> {
        match resource {
            Resource::Url => self.get("ri:value").map_or(To::Nothing, To::Url),
            Resource::User => To::Nothing,
            _ => self.target(resource).map_or(To::Nothing, To::Target),
        }
    }

    fn target(&self, resource: Resource) -> Option<Target> {
        let space = || self.named("ri:space-key").filter(|key| !key.contains(['(', '@']) || key.starts_with('~'));
        let id = || self.named("ri:content-id")?.parse().ok().map(|id| Target::Content(Content::Id { id }));
        let title = || self.named("ri:content-title").filter(|title| !is_relative(title));
        match resource {
            Resource::Content => id(),
            Resource::Space => Some(Target::Space { space: space()? }),
            Resource::Attachment => Some(Target::Attachment { file: self.named("ri:filename")?, of: None }),
            Resource::Shortcut => {
                let parameter = self.named("ri:parameter").unwrap_or_default();
                Some(Target::Shortcut { shortcut: self.named("ri:key")?, parameter })
            }
            Resource::Page | Resource::BlogPost => id()
                .or_else(|| {
                    let (space, title) = (space(), title()?);
                    Some(Target::Content(match self.named("ri:posting-day") {
                        Some(day) => Content::BlogPost { space, title, day },
                        None => Content::Page { space, title },
                    }))
                })
                .or_else(|| Some(Target::Space { space: space()? })),
            Resource::Url | Resource::User => None,
        }
    }
}

/// What an `ri:` element says.
pub(super) enum To<'b> {
    Target(Target),
    Url(Cow<'b, str>),
    /// A user, or something unreadable.
    Nothing,
}
