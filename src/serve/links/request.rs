//! What of a page's links is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::envelope::SiteId;
use crate::extract::Kind;
use crate::page::{FINGERPRINT_BYTES, Fingerprint, Status};
use crate::problem::Problem;

/// Links that one answer holds, unless it is asked for another number, and at most.
pub const LINKS_DEFAULT: usize = 100;
pub const LINKS_MAX: usize = 1_000;
/// Digits of a page's id.
const PAGE_DIGITS_MAX: usize = 19;

/// A call. Each fault names its parameter, and never holds what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinksRequest {
    site: SiteId,
    page: u64,
    /// Empty for all.
    kinds: Vec<Kind>,
    /// Empty where none is named.
    statuses: Vec<Status>,
    limit: Option<usize>,
    cursor: Option<Cursor>,
}

/// Where a list goes on, and of what list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Of site, page and kinds.
    call: Fingerprint,
    /// Of the page's links.
    pub list: Fingerprint,
    pub place: usize,
}

impl LinksRequest {
    pub const PARAMETERS: [&str; 4] = ["kind", "status", "limit", "cursor"];

    pub fn new(site: &str, page: &str) -> Result<Self, Problem> {
        let site = SiteId::parse(site).map_err(|error| Problem::of_parameter("site", error.to_string()))?;
        let is_id = (1..=PAGE_DIGITS_MAX).contains(&page.len()) && page.bytes().all(|byte| byte.is_ascii_digit());
        let page = page.parse().ok().filter(|_| is_id);
        let page = page
            .ok_or_else(|| Problem::of_parameter("page", format!("must be an id of 1 to {PAGE_DIGITS_MAX} digits")))?;
        Ok(Self { site, page, kinds: Vec::new(), statuses: Vec::new(), limit: None, cursor: None })
    }

    /// One more of [`Self::PARAMETERS`].
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "kind" => add_words(name, value, &mut self.kinds, &Kind::ALL, Kind::as_str),
            "status" => add_words(name, value, &mut self.statuses, &Status::ALL, Status::as_str),
            "limit" => {
                let digits = Some(value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
                let limit = digits.and_then(|value| value.parse().ok()).filter(|limit| (1..=LINKS_MAX).contains(limit));
                once(name, &mut self.limit, limit, format!("must be a number, 1 to {LINKS_MAX}"))
            }
            "cursor" => {
                let allowed = "must be `next` of an answer to this call; without it the list begins";
                once(name, &mut self.cursor, Cursor::read(value), allowed.to_owned())
            }
            _ => Err(Problem::of_parameter("", format!("the query may have {}", Self::PARAMETERS.join(", ")))),
        }
    }

    pub fn site(&self) -> &SiteId {
        &self.site
    }

    pub fn page(&self) -> u64 {
        self.page
    }

    /// Empty for all.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// `None` where none is named.
    pub fn statuses(&self) -> Option<&[Status]> {
        Some(self.statuses.as_slice()).filter(|statuses| !statuses.is_empty())
    }

    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(LINKS_DEFAULT)
    }

    /// Refused where it is that of another page, or of other kinds.
    pub fn cursor(&self) -> Result<Option<Cursor>, Problem> {
        match self.cursor {
            Some(cursor) if cursor.call != self.fingerprint() => {
                Err(Problem::of_parameter("cursor", "is that of another page, or of other kinds of links"))
            }
            cursor => Ok(cursor),
        }
    }

    /// What an answer tells of where the list goes on.
    pub fn cursor_at(&self, place: usize, list: Fingerprint) -> String {
        Cursor { call: self.fingerprint(), list, place }.write()
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update(format!("{} {}", self.site, self.page));
        Kind::ALL.iter().filter(|kind| self.kinds.contains(kind)).for_each(|kind| hash.update(kind.as_str()));
        Fingerprint::of(hash)
    }
}

impl Cursor {
    const BYTES: usize = 2 * FINGERPRINT_BYTES + 4;

    fn write(self) -> String {
        let place = u32::try_from(self.place).unwrap_or(u32::MAX).to_be_bytes();
        URL_SAFE_NO_PAD.encode([&self.call.0[..], &self.list.0[..], &place[..]].concat())
    }

    fn read(text: &str) -> Option<Self> {
        let bytes: [u8; Self::BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (call, rest) = bytes.split_first_chunk()?;
        let (list, place) = rest.split_first_chunk()?;
        let place = u32::from_be_bytes(place.try_into().ok()?);
        Some(Self { call: Fingerprint(*call), list: Fingerprint(*list), place: usize::try_from(place).ok()? })
    }
}

/// Words with commas between them; the parameter may stand several times, too.
fn add_words<T: Copy + PartialEq>(
    name: &str,
    value: &str,
    words: &mut Vec<T>,
    all: &[T],
    spelled: fn(T) -> &'static str,
) -> Result<(), Problem> {
    for word in value.split(',') {
        let Some(found) = all.iter().copied().find(|one| spelled(*one) == word) else {
            let allowed: Vec<&str> = all.iter().map(|one| spelled(*one)).collect();
            return Err(Problem::of_parameter(
                name,
                format!("must be some of {}, with commas between them", allowed.join(", ")),
            ));
        };
        if !words.contains(&found) {
            words.push(found);
        }
    }
    Ok(())
}

fn once<T>(name: &str, place: &mut Option<T>, value: Option<T>, allowed: String) -> Result<(), Problem> {
    let Some(value) = value else { return Err(Problem::of_parameter(name, allowed)) };
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::of_parameter(name, "must stand once")),
    }
}
