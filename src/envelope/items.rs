//! JSON arrays of which only the first items are kept, so that one of a million wrong items costs no more memory than
//! one of the most that are allowed.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor};

/// The first `most + 1` items of an array: whoever gets more than `most` knows that there are too many. The rest is
/// read over, and must be JSON too.
pub fn first_items<'de, T: Deserialize<'de>>(text: &'de str, most: usize) -> Result<Vec<T>, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_str(text);
    let items = First { kept: most + 1, of: PhantomData }.deserialize(&mut from)?;
    from.end()?;
    Ok(items)
}

struct First<T> {
    kept: usize,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for First<T> {
    type Value = Vec<T>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Vec<T>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.kept {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_too_many_is_kept_and_no_more() {
        let read = |text| first_items::<u8>(text, 2).map_err(|error| error.classify());
        assert_eq!(read("[1, 2]").unwrap(), [1, 2]);
        assert_eq!(read("[1,2,3,4,{}]").unwrap(), [1, 2, 3]);
        assert!(read("[]").unwrap().is_empty());
        use serde_json::error::Category::{Data, Eof, Syntax};
        for (text, why) in [("{}", Data), ("[{}]", Data), ("[1,2,3,x]", Syntax), ("[1,2,3", Eof), ("[1] 2", Syntax)] {
            assert_eq!(read(text), Err(why), "{text}");
        }
    }
}
