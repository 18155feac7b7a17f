//! The keys of `buffer`, and those of the second queue, that of page links: both are embedded or on SQS.

use std::path::Path;
use std::time::Duration;

use super::SECOND;
use crate::buffer::{self, HIDE_MAX};
use crate::config::BufferOptions;
use crate::config::fields::Fields;

const SCHEMES: [&str; 2] = ["http", "https"];
const PAGES_NEED_SQS: &str =
    "is for SQS alone, where the buffer must be, too: set buffer.queue_url as well, or leave it empty";

/// What holds for both queues.
#[cfg_attr(not(feature = "sqs"), expect(dead_code, reason = "they are for SQS"))]
#[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "they are for the embedded queues"))]
struct Shared<'a> {
    data_dir: &'a Path,
    visibility: Duration,
    wait: Duration,
    bytes_max: u64,
    endpoint_url: Option<String>,
    region: Option<String>,
}

/// The URLs of a queue and its dead letters, as they are configured.
struct Urls {
    queue: Option<String>,
    dead_letters: Option<String>,
}

/// The buffer, and the queue of page links where `with_pages`. `None` only where a fault says why.
pub(super) fn read(
    fields: &mut Fields<'_>,
    data_dir: &Path,
    with_pages: bool,
) -> (Option<BufferOptions>, Option<BufferOptions>) {
    let visibility = fields.duration("buffer.visibility", 5 * SECOND..=HIDE_MAX);
    let wait = fields.duration("buffer.wait", SECOND..=20 * SECOND);
    let bytes_max = fields.size("buffer.max_bytes", 1 << 20..=16 << 40);
    let main = Urls {
        queue: fields.url("buffer.queue_url", &SCHEMES),
        dead_letters: fields.url("buffer.dead_letter_url", &SCHEMES),
    };
    let pages = Urls {
        queue: fields.url("pages.queue_url", &SCHEMES),
        dead_letters: fields.url("pages.dead_letter_url", &SCHEMES),
    };
    let endpoint_url = fields.url("buffer.endpoint_url", &SCHEMES);
    let region = fields.optional("buffer.region");
    if main.queue.is_none() {
        let only_with = "is for SQS alone: set buffer.queue_url too, or leave it empty";
        let given = [
            ("buffer.dead_letter_url", main.dead_letters.is_some(), only_with),
            ("buffer.endpoint_url", endpoint_url.is_some(), only_with),
            ("buffer.region", region.is_some(), only_with),
            ("pages.queue_url", pages.queue.is_some(), PAGES_NEED_SQS),
            ("pages.dead_letter_url", pages.dead_letters.is_some(), PAGES_NEED_SQS),
        ];
        given.iter().filter(|(_, given, _)| *given).for_each(|(key, _, text)| fields.refuse(key, *text));
    } else {
        check_apart(fields, &main, &pages);
    }
    let shared = Shared { data_dir, visibility, wait, bytes_max, endpoint_url, region };
    let buffer = match main.queue {
        Some(queue) => sqs(fields, &shared, BUFFER, queue, main.dead_letters),
        None => embedded(fields, &shared, BUFFER),
    };
    let pages = match pages.queue {
        Some(queue) => sqs(fields, &shared, PAGES, queue, pages.dead_letters),
        None if with_pages => embedded(fields, &shared, PAGES),
        None => None,
    };
    (buffer, pages.filter(|_| with_pages))
}

/// The keys of one of the two queues, and its file where it is embedded.
#[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "they are for the embedded queues"))]
#[derive(Clone, Copy)]
struct Keys {
    queue_url: &'static str,
    dead_letter_url: &'static str,
    file: &'static str,
}

const BUFFER: Keys =
    Keys { queue_url: "buffer.queue_url", dead_letter_url: "buffer.dead_letter_url", file: "buffer.redb" };
const PAGES: Keys = Keys { queue_url: "pages.queue_url", dead_letter_url: "pages.dead_letter_url", file: "pages.redb" };

/// No queue may stand in for another.
fn check_apart(fields: &mut Fields<'_>, main: &Urls, pages: &Urls) {
    if pages.queue.is_none() && pages.dead_letters.is_some() {
        fields.refuse(PAGES.dead_letter_url, "is for SQS alone: set pages.queue_url too, or leave it empty");
    }
    let named = [
        (BUFFER.queue_url, &main.queue),
        (BUFFER.dead_letter_url, &main.dead_letters),
        (PAGES.queue_url, &pages.queue),
        (PAGES.dead_letter_url, &pages.dead_letters),
    ];
    for (i, (key, url)) in named.iter().enumerate() {
        let same = named[..i].iter().find(|(_, other)| url.is_some() && other == url);
        if let Some((other, _)) = same {
            fields.refuse(key, format!("must be another queue than {other}"));
        }
    }
}

#[cfg_attr(not(feature = "sqs"), expect(unused_variables, reason = "there is no SQS"))]
fn sqs(
    fields: &mut Fields<'_>,
    shared: &Shared<'_>,
    keys: Keys,
    queue_url: String,
    dead_letter_url: Option<String>,
) -> Option<BufferOptions> {
    let Some(dead_letter_url) = dead_letter_url else {
        let text = format!("is needed with {}: the URL of a second queue", keys.queue_url);
        fields.refuse(keys.dead_letter_url, text);
        return None;
    };
    #[cfg(feature = "sqs")]
    return Some(BufferOptions::Sqs(buffer::sqs::Options {
        keys: buffer::sqs::Keys { queue_url: keys.queue_url, dead_letter_url: keys.dead_letter_url },
        queue_url,
        dead_letter_url,
        endpoint_url: shared.endpoint_url.clone(),
        region: shared.region.clone(),
        visibility: shared.visibility,
        wait: shared.wait,
    }));
    #[cfg(not(feature = "sqs"))]
    {
        fields.refuse(keys.queue_url, "this program was built without SQS (feature `sqs`)");
        None
    }
}

#[cfg(feature = "embedded")]
fn embedded(_: &mut Fields<'_>, shared: &Shared<'_>, keys: Keys) -> Option<BufferOptions> {
    let Shared { data_dir, visibility, wait, bytes_max, .. } = *shared;
    let path = data_dir.join(keys.file);
    Some(BufferOptions::Embedded(buffer::embedded::Options { path, visibility, wait, bytes_max }))
}

#[cfg(not(feature = "embedded"))]
fn embedded(fields: &mut Fields<'_>, _: &Shared<'_>, keys: Keys) -> Option<BufferOptions> {
    fields.refuse(keys.queue_url, "is needed: this program was built without the embedded buffer");
    None
}
