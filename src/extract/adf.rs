//! The reader of ADF (`atlas_doc_format`): JSON, nodes within nodes.
//!
//! It reads node by node and keeps none, so that what was found before a fault stays. Deeper than [`NODES_DEPTH_MAX`]
//! nothing is looked at; such parts are skipped without recursion.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::collect::{Collector, readable};
use super::parameters::{Leads, leads};
use super::text::joined;
use super::{Appearance, Content, Context, Extraction, FlawKind, Origin, Target};

/// Nodes within nodes; the editor allows far fewer. Each takes two levels of JSON, of which serde_json reads 128.
const NODES_DEPTH_MAX: usize = 60;
/// The text of one link may be in many nodes.
const TEXT_BYTES_MAX: usize = 4096;

/// The links of a page in ADF.
pub fn links_of_adf(body: &[u8], context: &Context) -> Extraction {
    let mut collector = Collector::new(context);
    let body = readable(body, &mut collector);
    let mut json = serde_json::Deserializer::from_str(&body);
    let mut page = Page { collector, is_adf: false };
    let read = Node { page: &mut page, depth: 0 }.deserialize(&mut json);
    let fault = match read.map(|found| page.flush(found.into_link())).and_then(|()| json.end()) {
        Ok(()) if page.is_adf => None,
        Ok(()) => Some(0),
        Err(error) => Some(offset(&body, error.line(), error.column())),
    };
    if let Some(at) = fault {
        page.collector.reach(at);
        page.collector.flaw(FlawKind::Syntax);
    }
    page.collector.finish()
}

fn offset(body: &str, line: usize, column: usize) -> usize {
    let before: usize = body.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column).min(body.len())
}

struct Page<'c> {
    collector: Collector<'c>,
    /// Whether the outermost value was a node.
    is_adf: bool,
}

/// What a node is to the text around it.
enum Found {
    /// A part of a link: its neighbours may hold the rest.
    Link(Marked),
    /// It does not end a link.
    Break,
    Other,
}

struct Marked {
    position: u32,
    attrs: Value,
    text: String,
}

impl Found {
    fn into_link(self) -> Option<Marked> {
        if let Self::Link(link) = self { Some(link) } else { None }
    }
}

struct Node<'p, 'c> {
    page: &'p mut Page<'c>,
    depth: usize,
}

struct Nodes<'p, 'c> {
    page: &'p mut Page<'c>,
    depth: usize,
}

/// A node without what is in it, not yet read: most hold no link.
#[derive(Default)]
struct Parts<'de> {
    kind: Option<&'de RawValue>,
    text: Option<&'de RawValue>,
    attrs: Option<&'de RawValue>,
    marks: Option<&'de RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    Type,
    Text,
    Attrs,
    Marks,
    Content,
    #[serde(other)]
    Other,
}

/// Scalars where a node or a list should be are passed over.
macro_rules! passed_over {
    ($result:ty, $value:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("ADF")
        }
        fn visit_bool<E>(self, _: bool) -> Result<$result, E> {
            Ok($value)
        }
        fn visit_i64<E>(self, _: i64) -> Result<$result, E> {
            Ok($value)
        }
        fn visit_u64<E>(self, _: u64) -> Result<$result, E> {
            Ok($value)
        }
        fn visit_f64<E>(self, _: f64) -> Result<$result, E> {
            Ok($value)
        }
        fn visit_str<E>(self, _: &str) -> Result<$result, E> {
            Ok($value)
        }
        fn visit_unit<E>(self) -> Result<$result, E> {
            Ok($value)
        }
    };
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        if self.depth > NODES_DEPTH_MAX {
            self.page.collector.flaw(FlawKind::TooDeep);
            return from.deserialize_ignored_any(IgnoredAny).map(|_| Found::Other);
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Found;
    passed_over!(Found, Found::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let Self { page, depth } = self;
        let position = page.collector.begin();
        let mut parts = Parts::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::Type => parts.kind = Some(map.next_value()?),
                Field::Text => parts.text = Some(map.next_value()?),
                Field::Attrs => parts.attrs = Some(map.next_value()?),
                Field::Marks => parts.marks = Some(map.next_value()?),
                Field::Content => map.next_value_seed(Nodes { page: &mut *page, depth })?,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        page.is_adf |= depth == 0 && parts.kind.is_some();
        Ok(page.node(position, &parts))
    }
}

impl<'de> DeserializeSeed<'de> for Nodes<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nodes<'_, '_> {
    type Value = ();
    passed_over!((), ());

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { page, depth } = self;
        let mut open: Option<Marked> = None;
        loop {
            let found = match list.next_element_seed(Node { page: &mut *page, depth: depth + 1 }) {
                Ok(Some(found)) => found,
                end => {
                    page.flush(open);
                    return end.map(|_| ());
                }
            };
            match (found, &mut open) {
                (Found::Link(next), Some(link)) if next.attrs == link.attrs => {
                    let room = TEXT_BYTES_MAX.saturating_sub(link.text.len());
                    link.text.push_str(&next.text[..next.text.floor_char_boundary(room)]);
                }
                (Found::Break, Some(link)) => link.text.push(' '),
                (found, _) => page.flush(std::mem::replace(&mut open, found.into_link())),
            }
        }
    }
}

impl Page<'_> {
    fn node(&mut self, position: u32, node: &Parts<'_>) -> Found {
        match node.kind.map_or("", |kind| kind.get().trim_matches('"')) {
            "inlineCard" => self.card(position, Appearance::Inline, node),
            "blockCard" => self.card(position, Appearance::Block, node),
            "embedCard" => self.card(position, Appearance::Embed, node),
            "media" => self.media(position, Origin::Image, node),
            "mediaInline" => self.media(position, Origin::A, node),
            "extension" | "inlineExtension" | "bodiedExtension" | "multiBodiedExtension" => {
                self.extension(position, &self.value(node.attrs));
            }
            "hardBreak" => return Found::Break,
            _ => {}
        }
        let Some(attrs) = self.link_mark(node.marks) else { return Found::Other };
        let mut text = self.value(node.text).as_str().unwrap_or_default().to_owned();
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        Found::Link(Marked { position, attrs, text })
    }

    /// Attributes that nest too deep for serde_json hold no link.
    fn value(&self, raw: Option<&RawValue>) -> Value {
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    fn link_mark(&self, marks: Option<&RawValue>) -> Option<Value> {
        let Value::Array(marks) = self.value(marks) else { return None };
        let mut mark = marks.into_iter().find(|mark| mark["type"] == "link")?;
        Some(mark["attrs"].take())
    }

    fn card(&mut self, position: u32, appearance: Appearance, node: &Parts<'_>) {
        let attrs = self.value(node.attrs);
        if let Some(url) = attrs["url"].as_str().or_else(|| attrs["data"]["url"].as_str()) {
            self.collector.url(position, Origin::Smart(appearance), url, None);
        }
    }

    fn media(&mut self, position: u32, origin: Origin, node: &Parts<'_>) {
        let attrs = self.value(node.attrs);
        let text = attrs["alt"].as_str().and_then(joined);
        if let Some(url) = attrs["url"].as_str() {
            self.collector.url(position, origin, url, text);
            return;
        }
        let target = match (attrs["__fileName"].as_str(), attrs["id"].as_str()) {
            (Some(file), _) => Target::Attachment { file: file.to_owned(), of: None },
            (None, Some(id)) if !id.is_empty() => Target::Media { media: id.to_owned() },
            _ => return,
        };
        self.collector.target(position, origin, target, None, text);
    }

    fn extension(&mut self, position: u32, attrs: &Value) {
        let key = attrs["extensionKey"].as_str().unwrap_or_default();
        let name = key.rsplit('/').next().unwrap_or_default();
        let parameters = &attrs["parameters"];
        for group in [&parameters["macroParams"], &parameters["guestParams"], parameters] {
            for (parameter, value) in group.as_object().into_iter().flatten() {
                let Some(value) = value.as_str().or_else(|| value["value"].as_str()) else { continue };
                let origin = Origin::of_macro(name);
                match leads(name, parameter, value) {
                    Some(Leads::Url(url)) => self.collector.url(position, origin, url, None),
                    Some(Leads::Target(target)) => self.collector.target(position, origin, target, None, None),
                    None => {}
                }
            }
        }
    }

    /// A link whose text is complete.
    fn flush(&mut self, link: Option<Marked>) {
        let Some(Marked { position, attrs, text }) = link else { return };
        let text = joined(&text);
        let href = attrs["href"].as_str().or_else(|| attrs["url"].as_str()).unwrap_or_default();
        if !href.trim().is_empty() {
            return self.collector.url(position, Origin::A, href, text);
        }
        // Confluence's own editor leaves the URL empty where it stores a title.
        let known = &attrs["__confluenceMetadata"];
        let named = |name: &str| known[name].as_str().filter(|value| !value.is_empty()).map(ToOwned::to_owned);
        let anchor = named("anchorName");
        match (named("contentTitle"), named("fileName")) {
            (_, Some(file)) => {
                let target = Target::Attachment { file, of: None };
                self.collector.target(position, Origin::Link, target, anchor, text);
            }
            (Some(title), None) => {
                let target = Target::Content(Content::Page { space: named("spaceKey"), title });
                self.collector.target(position, Origin::Link, target, anchor, text);
            }
            (None, None) => {
                if let Some(anchor) = anchor {
                    self.collector.anchor(position, Origin::Link, anchor, text);
                }
            }
        }
    }
}
