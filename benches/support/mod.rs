//! What benches share.

use std::time::Duration;

use hookcache::config::{Config, Sources, StoreOptions, load};
use hookcache::envelope::Clock;
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
    let (writer, reader, _) = store::redis::open(&options, Clock::system()).expect("well-formed options");
    (store::Writer::Redis(writer), store::Reader::Redis(reader))
}

/// User and system time of all threads of a process, from the scheduler's own account in nanoseconds: the ticks of
/// /proc/self/stat are 10 ms long, which is half a round's part.
pub fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("Linux");
    let spent = threads.map(|thread| {
        let account =
            std::fs::read_to_string(thread.expect("Linux").path().join("schedstat")).expect("CONFIG_SCHEDSTATS");
        let on_cpu = account.split(' ').next().expect("three numbers");
        on_cpu.parse::<u64>().expect("nanoseconds")
    });
    Duration::from_nanos(spent.sum())
}

/// The median, and in parentheses the least and the most.
pub fn spread(figures: &mut [f64], digits: usize) -> String {
    figures.sort_by(f64::total_cmp);
    let (least, most) = (figures[0], figures[figures.len() - 1]);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", figures[figures.len() / 2])
}
