//! Merges duplicates, keeps order and limits.

use std::collections::HashMap;

use super::site::{Destination, Verdict};
use super::{
    Content, Context, Extraction, Flaw, FlawKind, KEPT_BYTES_MAX, Kind, LINKS_MAX, Link, Origin, Target, URL_BYTES_MAX,
};

/// What two occurrences of one link have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    origin: Origin,
    anchor: Option<String>,
    leads_to: LeadsTo,
}

/// A URL counts only where it is all that is known: the same page has many.
#[derive(Debug, PartialEq, Eq, Hash)]
enum LeadsTo {
    Target(Target),
    Url(Option<String>),
}

#[derive(Debug)]
pub(super) struct Collector<'c> {
    context: &'c Context,
    links: Vec<Link>,
    merged: HashMap<Key, usize>,
    kept_bytes: usize,
    occurrences: u32,
    flaws: Vec<Flaw>,
    /// Where the reader is, in bytes of the body.
    at: usize,
}

impl<'c> Collector<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        let (links, merged, flaws) = (Vec::new(), HashMap::new(), Vec::new());
        Self { context, links, merged, kept_bytes: 0, occurrences: 0, flaws, at: 0 }
    }

    /// The reader has come this far; flaws are told there.
    pub(super) fn reach(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn flaw(&mut self, kind: FlawKind) {
        if !self.flaws.iter().any(|flaw| flaw.kind == kind) {
            self.flaws.push(Flaw { kind, at: self.at });
        }
    }

    /// The place of an occurrence that begins here. Its link may be known only later, after others that lie within it.
    pub(super) fn begin(&mut self) -> u32 {
        self.occurrences = self.occurrences.saturating_add(1);
        self.occurrences - 1
    }

    /// A link by URL, as an attribute has it. `text` has its blanks joined.
    pub(super) fn url(&mut self, position: u32, origin: Origin, url: &str, text: Option<String>) {
        match self.context.classify(url) {
            Verdict::To(mut to) => {
                to.kind = match (&origin, to.kind) {
                    (Origin::Macro(_), Kind::External | Kind::Other) => Kind::Macro,
                    (Origin::Image, Kind::External | Kind::Internal | Kind::Attachment | Kind::Other) => Kind::Image,
                    (_, kind) => kind,
                };
                self.add(position, origin, to, text);
            }
            Verdict::Ignored => {}
            Verdict::TooLong => self.flaw(FlawKind::LinkTooLong),
        }
    }

    /// A link by what it names. An image is one by its origin.
    pub(super) fn target(
        &mut self,
        position: u32,
        origin: Origin,
        target: Target,
        anchor: Option<String>,
        text: Option<String>,
    ) {
        let kind = match &target {
            Target::Attachment { .. } | Target::Media { .. } if origin == Origin::Image => Kind::Image,
            Target::Attachment { .. } | Target::Media { .. } => Kind::Attachment,
            Target::Issue { .. } => Kind::Jira,
            Target::Shortcut { .. } => Kind::Other,
            Target::Content(_) | Target::Space { .. } => Kind::Internal,
        };
        let target = self.in_context(target);
        let to = Destination { anchor, ..Destination::target(kind, target) };
        self.add(position, origin, to, text);
    }

    /// A link to a place in this page.
    pub(super) fn anchor(&mut self, position: u32, origin: Origin, anchor: String, text: Option<String>) {
        let to = Destination { kind: Kind::Anchor, url: None, target: None, anchor: Some(anchor) };
        self.add(position, origin, to, text);
    }

    /// With the page's own space and id where the body leaves them out.
    fn in_context(&self, target: Target) -> Target {
        let filled = |space: Option<String>| space.or_else(|| self.context.space.clone());
        let content = |content| match content {
            Content::Page { space, title } => Content::Page { space: filled(space), title },
            Content::BlogPost { space, title, day } => Content::BlogPost { space: filled(space), title, day },
            by_id @ Content::Id { .. } => by_id,
        };
        match target {
            Target::Content(named) => Target::Content(content(named)),
            Target::Attachment { file, of } => {
                let own = || self.context.page.map(|id| Content::Id { id });
                Target::Attachment { file, of: of.map(content).or_else(own) }
            }
            other => other,
        }
    }

    fn add(&mut self, position: u32, origin: Origin, to: Destination, text: Option<String>) {
        let Destination { kind, url, target, anchor } = to;
        let bytes = target.as_ref().map_or(0, bytes_of) + anchor.as_ref().map_or(0, String::len);
        if bytes > URL_BYTES_MAX {
            return self.flaw(FlawKind::LinkTooLong);
        }
        let leads_to = target.clone().map_or_else(|| LeadsTo::Url(url.clone()), LeadsTo::Target);
        let key = Key { kind, origin: origin.clone(), anchor: anchor.clone(), leads_to };
        if let Some(index) = self.merged.get(&key) {
            let link = &mut self.links[*index];
            link.count = link.count.saturating_add(1);
            link.position = link.position.min(position);
            link.text = link.text.take().or(text);
            return;
        }
        let bytes = bytes + url.as_ref().map_or(0, String::len) + text.as_ref().map_or(0, String::len);
        if self.links.len() == LINKS_MAX || self.kept_bytes + bytes > KEPT_BYTES_MAX {
            return self.flaw(FlawKind::TooManyLinks);
        }
        self.kept_bytes += bytes;
        self.merged.insert(key, self.links.len());
        self.links.push(Link { kind, url, target, text, origin, anchor, count: 1, position });
    }

    pub(super) fn finish(mut self) -> Extraction {
        self.links.sort_by_key(|link| link.position);
        Extraction { links: self.links, flaws: self.flaws }
    }
}

fn bytes_of(target: &Target) -> usize {
    let content = |content: &Content| match content {
        Content::Id { .. } => 0,
        Content::Page { space, title } => space.as_ref().map_or(0, String::len) + title.len(),
        Content::BlogPost { space, title, day } => space.as_ref().map_or(0, String::len) + title.len() + day.len(),
    };
    match target {
        Target::Attachment { file, of } => file.len() + of.as_ref().map_or(0, content),
        Target::Content(named) => content(named),
        Target::Space { space: name } | Target::Media { media: name } | Target::Issue { issue: name } => name.len(),
        Target::Shortcut { shortcut, parameter } => shortcut.len() + parameter.len(),
    }
}

/// The UTF-8 part of a body that is read.
pub(super) fn readable<'b>(body: &'b [u8], collector: &mut Collector<'_>) -> std::borrow::Cow<'b, str> {
    let within = if body.len() > super::BODY_BYTES_MAX {
        collector.reach(super::BODY_BYTES_MAX);
        collector.flaw(FlawKind::TooLong);
        // A character that the limit cuts is not the body's fault.
        let start = (super::BODY_BYTES_MAX - 3..=super::BODY_BYTES_MAX).rev();
        let end = start.into_iter().find(|end| body[*end] & 0xc0 != 0x80).unwrap_or(super::BODY_BYTES_MAX);
        &body[..end]
    } else {
        body
    };
    match std::str::from_utf8(within) {
        Ok(text) => text.trim_start_matches('\u{feff}').into(),
        Err(error) => {
            collector.reach(error.valid_up_to());
            collector.flaw(FlawKind::NotUtf8);
            String::from_utf8_lossy(within)
        }
    }
}
