//! Who we are to a server, where a file says so.

use std::future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use deadpool_redis::redis::auth::{BasicAuth, StreamingCredentialsProvider};
use deadpool_redis::redis::{self, RedisConnectionInfo};
use futures_util::{Stream, StreamExt, stream};

use super::endpoint::OpenError;

/// The user that Redis takes a bare password for.
const DEFAULT_USER: &str = "default";

/// The file that a key of the configuration names.
pub(super) type KeyedFile = (&'static str, Option<PathBuf>);

/// User and password of which at least one comes from a file. The files are read at every connect, so that a password
/// can be changed without a restart; connections that are open keep the one they came in with.
#[derive(Clone)]
pub(super) struct Credentials {
    username_file: KeyedFile,
    password_file: KeyedFile,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// `None` where no file is named: then `url` says it all. Each file can be read now, or it is refused.
    pub(super) fn new(
        username_file: KeyedFile,
        password_file: KeyedFile,
        url: &RedisConnectionInfo,
    ) -> Result<Option<Self>, OpenError> {
        if password_file.1.is_none() && username_file.1.is_none() {
            return Ok(None);
        }
        let password = url.password().map(str::to_owned);
        if password_file.1.is_none() && password.is_none() {
            return Err(OpenError::NoPassword { user: username_file.0, password: password_file.0 });
        }
        let username = url.username().map(str::to_owned);
        let credentials = Self { username_file, password_file, username, password };
        credentials.read()?;
        Ok(Some(credentials))
    }

    fn read(&self) -> Result<BasicAuth, OpenError> {
        let one = |(key, file): &KeyedFile, otherwise: &Option<String>| match file {
            Some(path) => read_file(key, path).map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            None => Ok(otherwise.clone()),
        };
        let username = one(&self.username_file, &self.username)?;
        let password = one(&self.password_file, &self.password)?;
        Ok(BasicAuth::new(username.unwrap_or_else(|| DEFAULT_USER.to_owned()), password.unwrap_or_default()))
    }
}

impl StreamingCredentialsProvider for Credentials {
    /// One answer per connection, then silence: the end of the stream would be taken for a fault.
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = redis::RedisResult<BasicAuth>> + Send + 'static>> {
        let answer = self.read().map_err(|e| redis::RedisError::from(std::io::Error::other(e.to_string())));
        Box::pin(stream::once(future::ready(answer)).chain(stream::pending()))
    }
}

pub(super) fn read_file(key: &'static str, path: &Path) -> Result<String, OpenError> {
    std::fs::read_to_string(path).map_err(|source| OpenError::File { key, path: path.to_owned(), source })
}
