//! The token itself: `hc_` and 43 characters of base64url, which are 32 random bytes. Only its hash is ever kept.

use std::fmt;

use sha2::{Digest, Sha256};

/// So that a person, and a scanner for leaked secrets, knows one at sight.
const PREFIX: &str = "hc_";
const RANDOM_BYTES: usize = 32;
/// 32 bytes in base64url without padding.
const ENCODED_CHARS: usize = 43;
const HASH_PREFIX: &str = "sha256:";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A token in the clear. It is not shown by `Debug`, and has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// SHA-256 of a token, as the configuration keeps it: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Token {
    /// A new token, from the system's source of randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", base64url(&bytes))))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| ALPHABET.contains(&b);
        let encoded = text.strip_prefix(PREFIX)?;
        (encoded.len() == ENCODED_CHARS && encoded.bytes().all(legal)).then(|| Self(text.to_owned()))
    }

    pub fn hash(&self) -> Hash {
        Hash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The secret. For the one who made it or sends it, never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Hash {
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH_PREFIX)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        // n bytes need n + 1 characters of six bits.
        for i in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_the_rfc() {
        let vectors = [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")];
        for (bytes, text) in vectors {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn a_new_token_reads_back_and_is_never_the_same_twice() {
        let (a, b) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(Token::parse(a.reveal()), Some(a.clone()));
        assert_eq!(a.reveal().len(), 46);
        assert_eq!(Hash::parse(&a.hash().to_string()), Some(a.hash()));
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Token::generate().unwrap();
        assert!(!format!("{token:?}").contains(&token.reveal()[3..]));
    }

    #[test]
    fn what_is_not_quite_a_token_or_a_hash_is_neither() {
        let token = Token::generate().unwrap();
        let secret = token.reveal();
        for bad in [&secret[3..], &secret[..45], &format!("{secret}A"), &format!("hc_{}", "+".repeat(43)), "hc_é"] {
            assert!(Token::parse(bad).is_none());
        }
        let hash = token.hash().to_string();
        for bad in [&hash[7..], &hash[..70], "sha256:", &format!("sha256:{}", "g".repeat(64)), secret] {
            assert!(Hash::parse(bad).is_none());
        }
    }

    #[test]
    fn the_hash_is_what_sha256sum_prints() {
        let token = Token::parse("hc_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let digest = "374be121bf5379747cfd5b29e7e38ea0e330c6f0acd672e7623271d9ad16e735";
        assert_eq!(token.hash().to_string(), format!("sha256:{digest}"));
    }
}
