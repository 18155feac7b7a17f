//! Accounts, flows and webhook keys: parsed once, then known to be legal.

use std::fmt;
use std::sync::Arc;

use super::limits::{KEY_CHARS_MAX, NAME_BYTES_MAX};

/// Why a name is not legal. The text says what is allowed, never what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must have 1 to 128 characters of A-Z a-z 0-9 . _ : @ -")]
    Alphabet,
    #[error("must have 1 to 512 characters")]
    KeyLength,
    #[error("must not contain control characters")]
    KeyControl,
    #[error("must not contain the noncharacters U+FFFE and U+FFFF, which SQS refuses")]
    KeyNoncharacter,
}

macro_rules! tenant_name {
    ($name:ident, $what:literal) => {
        #[doc = concat!($what, ": `[A-Za-z0-9._:@-]{1,128}`. Cheap to clone.")]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let legal = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
                match text.len() {
                    1..=NAME_BYTES_MAX if text.bytes().all(legal) => Ok(Self(text.into())),
                    _ => Err(NameError::Alphabet),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

tenant_name!(Account, "The tenant");
tenant_name!(Flow, "One of an account's streams of webhooks");
tenant_name!(SiteId, "A site of another product that sends us webhooks: one tenant's Confluence");

/// The name under which a payload is fetched: 1 to 512 characters, no control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebhookKey(Arc<str>);

impl WebhookKey {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // A character takes at most four bytes, so the cheap test comes first and bounds the count.
        if text.is_empty() || text.len() > 4 * KEY_CHARS_MAX || text.chars().count() > KEY_CHARS_MAX {
            return Err(NameError::KeyLength);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::KeyControl);
        }
        if text.contains(['\u{FFFE}', '\u{FFFF}']) {
            return Err(NameError::KeyNoncharacter);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_takes_its_alphabet_and_nothing_else() {
        for good in ["a", "A.b_c:d@e-9", &"x".repeat(128)] {
            assert_eq!(Account::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert_eq!(Account::parse(bad), Err(NameError::Alphabet), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_counted_in_characters_and_holds_no_controls() {
        let emoji = "\u{1F980}".repeat(512);
        for good in ["ttl", "a/b", "%2F", "{x}", "a b", &emoji] {
            assert_eq!(WebhookKey::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(WebhookKey::parse(""), Err(NameError::KeyLength));
        assert_eq!(WebhookKey::parse(&"k".repeat(513)), Err(NameError::KeyLength));
        for bad in ["\0", "a\u{7f}", "a\u{9f}"] {
            assert_eq!(WebhookKey::parse(bad), Err(NameError::KeyControl), "{bad:?}");
        }
        assert_eq!(WebhookKey::parse("a\u{FFFE}"), Err(NameError::KeyNoncharacter));
    }
}
