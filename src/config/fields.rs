//! Reading one key: its form and its bounds. A key that is wrong leaves a fault, and a stand-in that is never used:
//! where there is a fault, no configuration comes out.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value;

use super::layers::{Located, Merged, Source, show};
use super::{Fault, urls};
use crate::ttl::Ttl;

const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

pub(super) struct Fields<'a> {
    merged: &'a Merged,
    faults: Vec<Fault>,
    read: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    pub fn new(merged: &'a Merged) -> Self {
        Self { merged, faults: Vec::new(), read: BTreeSet::new() }
    }

    pub fn finish(self) -> (Vec<Fault>, BTreeSet<&'static str>) {
        (self.faults, self.read)
    }

    /// Says that a key is at odds with another one, or with its surroundings.
    pub fn refuse(&mut self, key: &str, text: impl Into<String>) {
        let source = self.merged.get(key).map_or(Source::Default, |at| at.source.clone());
        self.faults.push(Fault { key: key.to_owned(), source, text: text.into() });
    }

    pub fn report(&mut self, faults: Vec<Fault>) {
        self.faults.extend(faults);
    }

    pub fn located(&mut self, key: &'static str) -> Option<&'a Located> {
        self.read.insert(key);
        let found = self.merged.get(key);
        if found.is_none() {
            self.refuse(key, "is missing from the compiled-in defaults");
        }
        found
    }

    /// `parse` answers with what is allowed where the value is not.
    fn read<T>(&mut self, key: &'static str, parse: impl FnOnce(&Located) -> Result<T, String>) -> Option<T> {
        let at = self.located(key)?;
        match parse(at) {
            Ok(value) => Some(value),
            Err(allowed) => {
                self.refuse(key, format!("was {}, {allowed}", show(key, &at.value)));
                None
            }
        }
    }

    /// A text that `parse` reads; it answers with what is allowed.
    pub fn parsed<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.read(key, |at| parse(as_text(&at.value)?))
    }

    /// `None` where the text is empty, which is how a key is not set.
    pub fn optional(&mut self, key: &'static str) -> Option<String> {
        let text = self.parsed(key, |text| Ok(text.to_owned()))?;
        Some(text).filter(|text| !text.is_empty())
    }

    pub fn url(&mut self, key: &'static str, schemes: &[&str]) -> Option<String> {
        let check = |text: &str| match text {
            "" => Ok(None),
            url => urls::check(url, schemes).map(|()| Some(url.to_owned())),
        };
        self.parsed(key, check).flatten()
    }

    #[cfg(feature = "server")]
    /// A URL that must be set.
    pub fn needed_url(&mut self, key: &'static str, schemes: &[&str]) -> Option<String> {
        self.parsed(key, |text| urls::check(text, schemes).map(|()| text.to_owned()))
    }

    /// One URL, or several with commas between them; none where the text is empty.
    pub fn urls(&mut self, key: &'static str, schemes: &[&str]) -> Option<Vec<String>> {
        self.parsed(key, |text| {
            let urls: Vec<String> = urls::split(text, schemes).into_iter().map(str::to_owned).collect();
            urls.iter().try_for_each(|url| urls::check(url, schemes)).map(|()| urls)
        })
    }

    pub fn flag(&mut self, key: &'static str) -> bool {
        let parse = |at: &Located| match (&at.value, &at.source) {
            (Value::Boolean(flag), _) => Ok(*flag),
            // A variable or a flag is always a text; in a file, the words stand without quotes.
            (Value::String(text), Source::Environment(_) | Source::Flag(_)) => {
                text.trim().parse().map_err(|_| "must be true or false".to_owned())
            }
            _ => Err("must be true or false".to_owned()),
        };
        self.read(key, parse).unwrap_or_default()
    }

    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> u32 {
        let (min, max) = (*range.start(), *range.end());
        let parse = |at: &Located| {
            let number = match (&at.value, &at.source) {
                (Value::Integer(number), _) => u32::try_from(*number).ok(),
                // A variable or a flag is always a text; in a file, a number is written as one.
                (Value::String(text), Source::Environment(_) | Source::Flag(_)) => text.trim().parse().ok(),
                _ => None,
            };
            number.filter(|number| range.contains(number)).ok_or(format!("must be a whole number, {min} to {max}"))
        };
        self.read(key, parse).unwrap_or(min)
    }

    pub fn count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> usize {
        self.number(key, range) as usize
    }

    pub fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Duration {
        let (min, max) = (*range.start(), *range.end());
        let parse = |text: &str| {
            let time = humantime::parse_duration(text).ok().filter(|time| range.contains(time));
            time.ok_or_else(|| format!("must be a time with a unit, {} to {}, such as \"10s\"", spell(min), spell(max)))
        };
        self.parsed(key, parse).unwrap_or(min)
    }

    pub fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let (min, max) = (*range.start(), *range.end());
        let allowed =
            || format!("must be a size with a unit, {} to {}, such as \"4GiB\"", spell_size(min), spell_size(max));
        let parse = |text: &str| parse_size(text).filter(|size| range.contains(size)).ok_or_else(allowed);
        self.parsed(key, parse).unwrap_or(min)
    }

    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let allowed = || {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            format!("must be one of {}", names.join(", "))
        };
        self.parsed(key, |text| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(allowed)
        })
    }

    /// A list of texts, each of which `parse` reads.
    pub fn list<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        self.read(key, |at| texts(&at.value)?.into_iter().map(&parse).collect())
    }
}

fn as_text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be a text in quotes".to_owned())
}

/// The items of a list, which a variable or a flag writes with commas.
fn texts(value: &Value) -> Result<Vec<&str>, String> {
    match value {
        Value::String(text) => Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
        Value::Array(items) => items.iter().map(as_text).collect(),
        _ => Err("must be a list of texts".to_owned()),
    }
}

/// A TTL as a person writes it: `never`, or a time of whole seconds such as `90s`, `1h 30m` or `7d`.
pub fn parse_ttl(text: &str) -> Result<Ttl, String> {
    let allowed =
        |error: &dyn Display| format!("must be \"never\" or a time such as \"90s\", \"1h\" or \"7d\": {error}");
    if text == "never" {
        return Ok(Ttl::Never);
    }
    let time = humantime::parse_duration(text).map_err(|error| allowed(&error))?;
    match time.subsec_nanos() {
        0 => Ttl::from_seconds(time.as_secs()).map_err(|error| allowed(&error)),
        _ => Err(allowed(&"only whole seconds")),
    }
}

/// A TTL as [`parse_ttl`] reads it.
pub fn spell_ttl(ttl: Ttl) -> String {
    match ttl {
        Ttl::Never => "never".to_owned(),
        Ttl::For(time) => spell(time),
    }
}

/// In days and less: humantime's months and years have odd lengths, which a person would not expect.
fn spell(time: Duration) -> String {
    let seconds = time.as_secs();
    match time {
        _ if time.subsec_nanos() != 0 => humantime::format_duration(time).to_string(),
        _ if seconds >= 86_400 && seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ if seconds >= 3_600 && seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds >= 60 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = SIZE_UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    digits.trim_end().parse::<u64>().ok()?.checked_mul(*unit)
}

fn spell_size(size: u64) -> String {
    let whole = SIZE_UNITS.iter().find(|(_, unit)| size.is_multiple_of(*unit));
    whole.map_or(format!("{size}B"), |(name, unit)| format!("{}{name}", size / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_reads_back_as_it_is_spelled() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("2m", 120), ("5h", 18_000), ("7d", 604_800), ("1d", 86_400)] {
            let ttl = Ttl::from_seconds(seconds).unwrap();
            assert_eq!(parse_ttl(text), Ok(ttl));
            assert_eq!(spell_ttl(ttl), text);
        }
        assert_eq!(parse_ttl("never"), Ok(Ttl::Never));
        for bad in ["", "1", "0s", "-1s", "1.5s", "1500ms", "200000d", "Never", "soon"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_has_a_unit() {
        for (text, size) in [("0B", 0), ("64KiB", 65_536), ("4 GiB", 4 << 30), ("1TiB", 1 << 40)] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for bad in ["", "1", "KiB", "1.5GiB", "-1B", "1GB", "99999999999TiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!((spell_size(1 << 20), spell_size(1_500)), ("1MiB".to_owned(), "1500B".to_owned()));
    }
}
