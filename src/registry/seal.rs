//! Secrets, sealed before they reach the database: AES-256-GCM under the key of `registry.key_file` or
//! `registry.key`.
//!
//! What is sealed is bound to its site and its column, so that a row copied over another's opens nothing. Nothing here
//! is printed: neither key nor secret has a `Debug`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use super::{Key, OpenError};

const KEY_BYTES: usize = 32;
/// A key file is 64 digits and a line end; what is larger is something else.
const KEY_FILE_BYTES_MAX: u64 = 1024;
/// Before what is sealed, so that another way to seal can come one day.
const FORM: &str = "a1:";
const KEY_FILE: &str = "registry.key_file";

/// What a secret is sealed for.
#[derive(Clone, Copy)]
pub struct Label<'a> {
    pub site: &'a str,
    pub column: &'static str,
}

impl Label<'_> {
    /// A site's name holds no NUL.
    fn bytes(self) -> Vec<u8> {
        [self.site.as_bytes(), b"\0", self.column.as_bytes()].concat()
    }
}

/// The key. Cheap to clone.
#[derive(Clone)]
pub struct Seal(Arc<RandomizedNonceKey>);

/// What was sealed under another key, for another place, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl Seal {
    pub fn read(key: &Key) -> Result<Self, OpenError> {
        let path = match key {
            Key::File(path) | Key::MadeAtFirst(path) => path,
            Key::Text(digits) => {
                let refused = || OpenError("registry.key: must be 64 hexadecimal digits".to_owned());
                return Self::of_digits(digits).ok_or_else(refused);
            }
        };
        let shown = path.display();
        match read(path) {
            Ok(Some(digits)) => Self::of_digits(&digits).ok_or_else(|| {
                OpenError(format!(
                    "{KEY_FILE}: {shown} must hold 64 hexadecimal digits, as `openssl rand -hex 32` makes them"
                ))
            }),
            Ok(None) => Err(OpenError(format!(
                "{KEY_FILE}: {shown} is missing, so the secrets of the registry can't be read: bring the file back from its \
                 copy, or set {KEY_FILE} to where it is"
            ))),
            Err(error) => {
                Err(OpenError(format!("{KEY_FILE}: {shown} can't be read ({error}); allow it, or correct the path")))
            }
        }
    }

    /// Reads the key, or makes one where there is no file and that is allowed. For a registry that holds no secret yet.
    pub fn read_or_make(key: &Key) -> Result<Self, OpenError> {
        let Key::MadeAtFirst(path) = key else { return Self::read(key) };
        let made = if path.exists() { Ok(()) } else { make(path) };
        match made {
            Ok(()) => Self::read(key),
            Err(error) => Err(OpenError(format!(
                "{KEY_FILE}: {} can't be made ({error}); allow it, or set {KEY_FILE} to a file with 64 hexadecimal digits",
                path.display()
            ))),
        }
    }

    fn of_digits(digits: &str) -> Option<Self> {
        let key = bytes_of(digits.trim()).filter(|key| key.len() == KEY_BYTES)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok().map(|key| Self(Arc::new(key)))
    }

    pub fn seal(&self, label: Label<'_>, secret: &str) -> String {
        let mut sealed = secret.as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(label.bytes()), &mut sealed);
        let nonce = nonce.expect("AES-GCM seals whatever fits into memory, and the system has random numbers");
        format!("{FORM}{}{}", digits_of(nonce.as_ref()), digits_of(&sealed))
    }

    pub fn open(&self, label: Label<'_>, sealed: &str) -> Result<String, Broken> {
        let mut bytes = sealed.strip_prefix(FORM).and_then(bytes_of).ok_or(Broken)?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
        let secret = self.0.open_in_place(nonce, Aad::from(label.bytes()), sealed).map_err(|_| Broken)?;
        String::from_utf8(secret.to_vec()).map_err(|_| Broken)
    }
}

/// `None` where there is no such file.
fn read(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    // What is no text is no key, which the caller says.
    Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
}

/// Makes a key that nobody else may read, and that is there after a power cut.
fn make(path: &Path) -> std::io::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
    // Under a name of its own first, so that no half key is ever found under the right one.
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{}\n", digits_of(&key)).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn digits_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits stand for.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(value(*high)? * 16 + value(*low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label<'static> = Label { site: "acme", column: "credential" };

    fn seal(digit: char) -> Seal {
        Seal::of_digits(&String::from(digit).repeat(64)).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_key_for_the_same_site_and_column_alone() {
        let sealed = seal('a').seal(LABEL, "hunter2");
        assert_eq!(seal('a').open(LABEL, &sealed).as_deref(), Ok("hunter2"));
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, seal('a').seal(LABEL, "hunter2"), "the nonce is another one each time");
        assert_eq!(seal('b').open(LABEL, &sealed), Err(Broken));
        assert_eq!(seal('a').open(Label { site: "other", ..LABEL }, &sealed), Err(Broken));
        assert_eq!(seal('a').open(Label { column: "hook_secret", ..LABEL }, &sealed), Err(Broken));
    }

    #[test]
    fn what_was_changed_opens_no_more() {
        let sealed = seal('a').seal(LABEL, "hunter2");
        for at in FORM.len()..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(seal('a').open(LABEL, &String::from_utf8(changed).unwrap()), Err(Broken), "{at}");
        }
        for bad in ["", "a1:", "a1:00", "b1:00", "plain text", &sealed[..sealed.len() - 1], &sealed[..40]] {
            assert_eq!(seal('a').open(LABEL, bad), Err(Broken), "{bad}");
        }
    }

    #[test]
    fn a_key_that_is_made_is_for_its_owner_alone_and_is_never_made_twice() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.key");
        let key = Key::MadeAtFirst(path.clone());
        let sealed = Seal::read_or_make(&key).unwrap().seal(LABEL, "x");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Seal::read_or_make(&key).unwrap().open(LABEL, &sealed).as_deref(), Ok("x"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_file_that_is_none_is_refused_with_the_setting_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let given = Key::File(path.clone());
        let refused = |key: &Key| Seal::read_or_make(key).err().unwrap().to_string();
        assert!(refused(&given).starts_with("registry.key_file: "), "{}", refused(&given));
        for bad in ["", "abc", &"a".repeat(63), &"a".repeat(66), &"g".repeat(64), &"a".repeat(2_000), "\u{e4}"] {
            std::fs::write(&path, bad).unwrap();
            let text = refused(&given);
            assert!(text.contains("must hold 64 hexadecimal digits"), "{text}");
            assert!(bad.is_empty() || !text.contains(bad), "it is not shown: {text}");
        }
        std::fs::write(&path, format!("  {}\r\n", "Ab".repeat(32))).unwrap();
        assert!(Seal::read(&given).is_ok());
        let text = |digits: &str| Key::Text(digits.to_owned());
        assert!(Seal::read(&text(&"Ab".repeat(32))).is_ok());
        assert_eq!(refused(&text("s3cr3t")), "registry.key: must be 64 hexadecimal digits");
        assert!(!format!("{:?}", text("s3cr3t")).contains("s3cr3t"));
    }
}
