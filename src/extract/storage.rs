//! The reader of storage format.
//!
//! It is XML with prefixes that nobody declares and entities that XML does not know, and not HTML: an HTML parser takes
//! CDATA for a comment that ends at the first `>`, and `<ri:page/>` for an element that stays open.
//!
//! quick-xml tells tags and text apart; which element ends where is decided here, on a stack of our own, as bodies that
//! tools wrote close their elements in any order.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::collect::{Collector, readable};
use super::constructs::{Constructs, Role};
use super::elements::Element;
use super::tag::Tag;
use super::{Context, DEPTH_MAX, Extraction, FlawKind, RECOVERIES_MAX};

/// How many open elements an end without a start may close at most.
const CLOSED_AT_ONCE_MAX: usize = 64;

/// The links of a page in storage format.
pub fn links_of_storage(body: &[u8], context: &Context) -> Extraction {
    let mut collector = Collector::new(context);
    let body = readable(body, &mut collector);
    let page =
        Page { body: &body, constructs: Constructs::new(collector), elements: Vec::new(), beyond: 0, opaque: None };
    page.read()
}

struct Page<'b, 'c> {
    body: &'b str,
    constructs: Constructs<'b, 'c>,
    /// All that are open, the outermost first.
    elements: Vec<Opened<'b>>,
    /// How many are open beyond [`DEPTH_MAX`], about which nothing is known.
    beyond: usize,
    /// How many elements were open when one began in which nothing is a link.
    opaque: Option<usize>,
}

struct Opened<'b> {
    name: &'b str,
    role: Role,
}

/// What ended a run of the tokenizer.
enum Run {
    End,
    Resume(usize),
}

impl<'b> Page<'b, '_> {
    fn read(mut self) -> Extraction {
        let (mut from, mut recoveries) = (0, 0);
        while let Run::Resume(at) = self.run(from, &mut recoveries) {
            from = at;
        }
        if !self.elements.is_empty() || self.beyond > 0 {
            self.constructs.collector.reach(self.body.len());
            self.constructs.collector.flaw(FlawKind::Unbalanced);
        }
        while !self.elements.is_empty() {
            self.close();
        }
        self.constructs.collector.finish()
    }

    fn run(&mut self, from: usize, recoveries: &mut usize) -> Run {
        // The tokenizer would drop it without counting it.
        let rest = self.body[from..].trim_start_matches('\u{feff}');
        let from = self.body.len() - rest.len();
        let mut reader = Reader::from_str(rest);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        let position = |reader: &Reader<&[u8]>| from + usize::try_from(reader.buffer_position()).unwrap_or(0);
        let mut starts: usize = 0;
        loop {
            let at = position(&reader);
            self.constructs.collector.reach(at);
            let is_markup = match reader.read_event() {
                Ok(Event::Eof) => return Run::End,
                Ok(Event::Start(tag)) => {
                    starts += 1;
                    Tag::at(self.body, at, &tag).map(|tag| self.start(&tag, false)).is_some()
                }
                Ok(Event::Empty(tag)) => Tag::at(self.body, at, &tag).map(|tag| self.start(&tag, true)).is_some(),
                Ok(Event::End(tag)) => {
                    starts = starts.saturating_sub(1);
                    self.end(tag.name().0);
                    true
                }
                Ok(content) => {
                    self.content(&content);
                    true
                }
                Err(_) => false,
            };
            if !is_markup {
                // A `<` that starts nothing. What follows it is text, and may hold tags.
                self.constructs.collector.flaw(FlawKind::Syntax);
                *recoveries += 1;
                let is_last = *recoveries > RECOVERIES_MAX || !self.body[at..].starts_with('<');
                return if is_last { Run::End } else { Run::Resume(at + 1) };
            }
            if starts > DEPTH_MAX {
                // The tokenizer keeps the names of all that is open, which nobody asks it for. A new one has none.
                return Run::Resume(position(&reader));
            }
        }
    }

    /// What is no tag. Comments, declarations and instructions say nothing.
    fn content(&mut self, content: &Event<'_>) {
        match content {
            _ if self.opaque.is_some() => {}
            Event::Text(text) => self.constructs.push(text),
            Event::CData(text) => self.constructs.push(text),
            Event::GeneralRef(name) => self.constructs.push_reference(name),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'b>, is_empty: bool) {
        let element = Element::named(tag.name());
        let is_open = !is_empty && !element.is_void();
        if self.opaque.is_some() {
            if is_open {
                self.hold(tag.name(), Role::Plain);
            }
            return;
        }
        let is_known = self.elements.len() < DEPTH_MAX;
        if element == Element::Opaque && is_open && is_known {
            self.opaque = Some(self.elements.len());
        }
        let role = self.constructs.enter(element, tag, is_open);
        if is_open && is_known {
            self.hold(tag.name(), role);
            return;
        }
        if is_open {
            self.hold(tag.name(), Role::Plain);
        }
        self.constructs.leave(role);
    }

    fn hold(&mut self, name: &'b str, role: Role) {
        if self.elements.len() < DEPTH_MAX {
            self.elements.push(Opened { name, role });
        } else {
            self.beyond += 1;
            self.constructs.collector.flaw(FlawKind::TooDeep);
        }
    }

    fn end(&mut self, name: &str) {
        if Element::named(name).is_void() {
            return;
        }
        if self.beyond > 0 {
            self.beyond -= 1;
            return;
        }
        if self.elements.last().is_some_and(|element| element.name == name) {
            self.close();
            return;
        }
        self.constructs.collector.flaw(FlawKind::Unbalanced);
        let within = self.elements.iter().rev().take(CLOSED_AT_ONCE_MAX).position(|element| element.name == name);
        for _ in 0..within.map_or(0, |within| within + 1) {
            self.close();
        }
    }

    /// Closes the innermost element.
    fn close(&mut self) {
        let Some(Opened { role, .. }) = self.elements.pop() else { return };
        if self.opaque == Some(self.elements.len()) {
            self.opaque = None;
        }
        self.constructs.leave(role);
    }
}
