//! What elements of storage format make a link, and with what text.
//!
//! A link is known only when its element ends: `ri:` elements within it say where it leads, and text within it is its
//! own. So what collects a link stands on a stack (`open`) until then, and so do the names of the macros around. Text is
//! copied only where something is open, once, and each takes its part of it.

use std::borrow::Cow;

use super::collect::Collector;
use super::elements::{Element, Resource};
use super::parameters::{Leads, is_code, leads};
use super::tag::{Tag, To};
use super::text::{joined, kept, push_joined, push_reference};
use super::{Appearance, Content, Origin, Target, URL_BYTES_MAX};

/// Bytes of text that are held for an open link or parameter: enough to see that a URL is too long.
const HELD_BYTES_MAX: usize = URL_BYTES_MAX + 1;
/// The parameter of an extension that says which one it is.
const EXTENSION_KEYS: &[&str] = &["extension-key", "extensionKey"];

pub(super) struct Constructs<'b, 'c> {
    pub collector: Collector<'c>,
    open: Vec<Open<'b>>,
    /// The names of the macros around.
    macros: Vec<Cow<'b, str>>,
    /// Of all that is open, its blanks joined.
    text: String,
}

/// What the end of an element has to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    /// It stands in `open`, too.
    Open,
    Macro,
}

/// What collects a link, or text, until it ends.
struct Open<'b> {
    what: What<'b>,
    /// Where its text begins.
    text_start: usize,
}

enum What<'b> {
    A { position: u32, origin: Origin, href: Cow<'b, str> },
    Link { position: u32, origin: Origin, anchor: Option<Cow<'b, str>>, to: Option<To<'b>> },
    Image { position: u32, alt: Option<Cow<'b, str>> },
    Parameter { name: Cow<'b, str>, is_text: bool },
    Attachment { file: Cow<'b, str>, of: Option<Content> },
    Card(Appearance),
}

impl<'b, 'c> Constructs<'b, 'c> {
    pub(super) fn new(collector: Collector<'c>) -> Self {
        Self { collector, open: Vec::new(), macros: Vec::new(), text: String::new() }
    }

    /// An element begins. Its role has to be handed to [`Self::leave`] at its end; `is_open` says whether that comes.
    pub(super) fn enter(&mut self, element: Element, tag: &Tag<'b>, is_open: bool) -> Role {
        match element {
            Element::Plain | Element::Opaque => Role::Plain,
            Element::Void => {
                self.push(" ");
                Role::Plain
            }
            Element::A => self.enter_a(tag),
            Element::Img => {
                if let Some(src) = tag.get("src") {
                    let position = self.collector.begin();
                    let alt = tag.get("alt").and_then(|alt| joined(&alt));
                    self.collector.url(position, Origin::Image, &src, alt);
                }
                Role::Plain
            }
            Element::Frame => {
                if let Some(src) = tag.get("src") {
                    let position = self.collector.begin();
                    self.collector.url(position, Origin::Frame, &src, None);
                }
                Role::Plain
            }
            Element::Div => match tag.appearance("data-card-appearance") {
                Some(appearance) => self.collect(What::Card(appearance)),
                None => Role::Plain,
            },
            Element::Link => {
                let position = self.collector.begin();
                let origin = match self.open.last().map(|open| &open.what) {
                    Some(What::Parameter { .. }) => self.macro_origin(),
                    _ => tag.appearance("ac:card-appearance").map_or(Origin::Link, Origin::Smart),
                };
                let anchor = tag.get("ac:anchor").filter(|anchor| !anchor.trim().is_empty());
                self.collect(What::Link { position, origin, anchor, to: None })
            }
            Element::Image => {
                let position = self.collector.begin();
                let alt = tag.get("ac:alt").filter(|alt| !alt.is_empty()).or_else(|| tag.get("ac:title"));
                if let Some(href) = tag.get("ac:href") {
                    self.collector.url(position, Origin::A, &href, alt.as_deref().and_then(joined));
                }
                self.collect(What::Image { position, alt })
            }
            Element::Macro => {
                self.macros.push(tag.get("ac:name").or_else(|| tag.get("type")).unwrap_or_default());
                Role::Macro
            }
            Element::Parameter => {
                let name = tag.get("ac:name").or_else(|| tag.get("key")).unwrap_or_default();
                self.collect(What::Parameter { name, is_text: true })
            }
            // Without a name it still holds what stands in it: the page of a file is no link.
            Element::Resource(Resource::Attachment) if is_open => {
                let file = tag.get("ri:filename").unwrap_or_default();
                self.collect(What::Attachment { file, of: None })
            }
            Element::Resource(resource) => {
                self.give(tag.resource(resource));
                Role::Plain
            }
        }
    }

    fn enter_a(&mut self, tag: &Tag<'b>) -> Role {
        let Some(href) = tag.get("href") else { return Role::Plain };
        let around = match self.open.last().map(|open| &open.what) {
            Some(What::Card(appearance)) => Some(*appearance),
            _ => None,
        };
        let origin = tag.appearance("data-card-appearance").or(around).map_or(Origin::A, Origin::Smart);
        let position = self.collector.begin();
        self.collect(What::A { position, origin, href })
    }

    fn collect(&mut self, what: What<'b>) -> Role {
        self.open.push(Open { what, text_start: self.text.len() });
        Role::Open
    }

    pub(super) fn leave(&mut self, role: Role) {
        match role {
            Role::Plain => {}
            Role::Macro => {
                self.macros.pop();
            }
            Role::Open => {
                let Some(Open { what, text_start }) = self.open.pop() else { return };
                self.finish(what, text_start);
                // Text of what has ended belongs to what is around it, too, as far as there is room.
                let room = self.open.last().map_or(0, |open| open.text_start + HELD_BYTES_MAX);
                self.text.truncate(self.text.floor_char_boundary(room));
            }
        }
    }

    fn finish(&mut self, what: What<'b>, text_start: usize) {
        let text = |open: &Self| kept(&open.text[text_start..]);
        match what {
            What::A { position, origin, href } => {
                let text = text(self);
                self.collector.url(position, origin, &href, text);
            }
            What::Link { position, origin, anchor, to } => {
                let text = text(self);
                let anchor = anchor.map(Cow::into_owned);
                match (to, anchor) {
                    (Some(To::Target(target)), anchor) => self.collector.target(position, origin, target, anchor, text),
                    (Some(To::Url(url)), _) => self.collector.url(position, origin, &url, text),
                    (None, Some(anchor)) => self.collector.anchor(position, origin, anchor, text),
                    (Some(To::Nothing), _) | (None, None) => {}
                }
            }
            What::Attachment { file, .. } if file.trim().is_empty() => self.give(To::Nothing),
            What::Attachment { file, of } => {
                self.give(To::Target(Target::Attachment { file: file.into_owned(), of }));
            }
            What::Parameter { name, is_text } => self.finish_parameter(&name, is_text, text_start),
            What::Image { .. } | What::Card(_) => {}
        }
        if let Some(Open { what: What::Parameter { is_text, .. }, .. }) = self.open.last_mut() {
            *is_text = false;
        }
    }

    fn finish_parameter(&mut self, name: &str, is_text: bool, text_start: usize) {
        let value = &self.text[text_start..];
        if !is_text {
            return;
        }
        if EXTENSION_KEYS.contains(&name) {
            let key = value.trim().rsplit('/').next().unwrap_or_default().to_owned();
            if let Some(innermost) = self.macros.last_mut() {
                *innermost = key.into();
            }
            return;
        }
        let Some(within) = self.macros.last() else { return };
        match leads(within, name, value) {
            Some(Leads::Url(url)) => {
                let origin = self.macro_origin();
                let position = self.collector.begin();
                self.collector.url(position, origin, url, None);
            }
            Some(Leads::Target(target)) => {
                let origin = self.macro_origin();
                let position = self.collector.begin();
                self.collector.target(position, origin, target, None, None);
            }
            None => {}
        }
    }

    fn macro_origin(&self) -> Origin {
        Origin::of_macro(self.macros.last().map_or("", |name| name))
    }

    /// Hands what an `ri:` element says to what is around it.
    fn give(&mut self, to: To<'b>) {
        let (position, origin, text) = match self.open.last_mut().map(|open| &mut open.what) {
            Some(What::Attachment { of, .. }) => {
                // The page that holds the file, and no link of its own.
                if let To::Target(Target::Content(content)) = to {
                    *of = Some(content);
                }
                return;
            }
            Some(What::Link { to: known, .. }) => {
                known.get_or_insert(to);
                return;
            }
            Some(What::Image { position, alt }) => (*position, Origin::Image, alt.as_deref().and_then(joined)),
            Some(What::Parameter { is_text, .. }) => {
                *is_text = false;
                // A space is where a macro searches, and code leads nowhere.
                let leads_nowhere = matches!(to, To::Target(Target::Space { .. }));
                if leads_nowhere || self.macros.last().is_some_and(|name| is_code(name)) {
                    return;
                }
                (self.collector.begin(), self.macro_origin(), None)
            }
            _ => (self.collector.begin(), Origin::Resource, None),
        };
        match to {
            To::Target(target) => self.collector.target(position, origin, target, None, text),
            To::Url(url) => self.collector.url(position, origin, &url, text),
            To::Nothing => {}
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        let Some(room) = self.room() else { return };
        let start = self.open.last().map_or(0, |open| open.text_start);
        push_joined(&text[..text.floor_char_boundary(room)], start, &mut self.text);
    }

    pub(super) fn push_reference(&mut self, name: &str) {
        if self.room().is_none() {
            return;
        }
        let mut value = String::new();
        if !push_reference(name, &mut value) {
            value = format!("&{name};");
        }
        self.push(&value);
    }

    /// Bytes of text that are still wanted.
    fn room(&self) -> Option<usize> {
        let innermost = self.open.last()?;
        HELD_BYTES_MAX.checked_sub(self.text.len() - innermost.text_start).filter(|room| *room > 0)
    }
}
