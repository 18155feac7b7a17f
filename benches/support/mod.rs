//! What benches share.

use hookcache::config::{Config, Sources, StoreOptions, load};
use hookcache::store;

/// The defaults, and what these variables of the environment change.
pub fn configured(environment: &[(&str, &str)]) -> Config {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Sources { file: None, environment, flags: Vec::new() }).expect("a valid configuration").config
}

/// A store on the Redis at this URL, within the runtime that calls.
pub fn redis_store(url: &str) -> (store::Writer, store::Reader) {
    let StoreOptions::Redis(options) = configured(&[("HOOKCACHE_STORE__URL", url)]).store else {
        unreachable!("store.url makes the store Redis")
    };
    let (writer, reader, _) = store::redis::open(&options).expect("well-formed options");
    (store::Writer::Redis(writer), store::Reader::Redis(reader))
}
