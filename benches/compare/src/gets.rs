//! Gets by key in a closed loop: how many a second, and what each costs.

use crate::args::Args;
use crate::figures::Rounds;
use crate::load::{CONNECTIONS, Figures, round};
use crate::report::Report;
use crate::stage::{KEYS, Stage, payload};
use crate::subject::Subject;

const SMALL_BYTES: usize = 512;
const LARGE_BYTES: usize = 16 << 10;

/// Whom the others are compared with, by their places.
const BARE: usize = 0;
const WEBDIS: usize = 1;

/// The columns of a table: name, digits behind the point, and the figure.
type Column = (&'static str, usize, fn(&Figures) -> Rounds);
const COLUMNS: [Column; 6] = [
    ("requests/s", 0, |figures| figures.per_second.clone()),
    ("p50", 2, |figures| figures.p50_ms.clone()),
    ("p99", 2, |figures| figures.p99_ms.clone()),
    ("CPU server", 1, |figures| figures.server_us.clone()),
    ("CPU Redis", 1, |figures| figures.backend_us.clone()),
    ("CPU both", 1, |figures| figures.server_us.plus(&figures.backend_us)),
];

/// Remembers nothing: each get asks Redis.
pub const L1_OFF_NAME: &str = "hookcache, L1 off";
pub const L1_OFF: (&str, &str) = ("HOOKCACHE_GET__CACHE", "off");
/// For the large ones, too.
const ROOM_FOR_ALL: (&str, &str) = ("HOOKCACHE_GET__CACHE_MAX_BYTES", "256MiB");
/// The memory that is for what is there; the rest is for what is known to be absent.
const THERE_PART: f64 = 15.0 / 16.0;
/// Hit ratios beside those of a memory that holds all, and of none.
const HIT_RATIOS: [f64; 2] = [0.9, 0.5];

pub fn measure(stage: &Stage, args: &Args, report: &mut Report) {
    let (all_hits, no_hits) =
        (Subject::hookcache(stage, "hookcache", &[ROOM_FOR_ALL]), Subject::hookcache(stage, L1_OFF_NAME, &[L1_OFF]));
    for bytes in [SMALL_BYTES, LARGE_BYTES] {
        stage.fill(no_hits.process.port, &prefix(bytes), KEYS, &payload(bytes));
    }
    all_hits.read_all(&prefix(SMALL_BYTES), KEYS);
    let of_all = all_hits.series("hookcache_l1_bytes");
    let with_ratio = |ratio: f64| {
        let bytes_max = format!("{:.0}B", of_all * ratio / THERE_PART);
        let name = format!("hookcache, room for {:.0} %", ratio * 100.0);
        Subject::hookcache(stage, &name, &[("HOOKCACHE_GET__CACHE_MAX_BYTES", &bytes_max)])
    };
    let some_hits = HIT_RATIOS.map(with_ratio);
    let bare = |bytes| Subject::bare(stage, &no_hits, &format!("{}0", prefix(bytes)));
    let (bare_small, bare_large) = (bare(SMALL_BYTES), bare(LARGE_BYTES));
    let (webdis, fastapi) = (Subject::webdis(stage), Subject::fastapi(stage));

    let words = format!(
        "wrk, closed loop, {CONNECTIONS} connections kept alive, keys drawn from {KEYS}, a token (webdis: a password) with \
         each. The bare server answers what hookcache answers, from a constant: it is the limit. hookcache remembers what \
         it has read (`get.cache`), here all of it, as much as there is room for, or nothing; the hits are counted by \
         itself."
    );
    report.section("Gets by key, 512 bytes", &words);
    let [most_hits, half_hits] = &some_hits;
    rows(
        stage,
        args,
        report,
        &[&bare_small, &webdis, &fastapi, &all_hits, most_hits, half_hits, &no_hits],
        SMALL_BYTES,
    );
    report.section("Gets by key, 16 KiB", "As above, with larger payloads.");
    all_hits.read_all(&prefix(LARGE_BYTES), KEYS);
    rows(stage, args, report, &[&bare_large, &webdis, &fastapi, &all_hits, &no_hits], LARGE_BYTES);
}

/// The share of gets that were answered from memory since it began to count.
struct Hits<'a> {
    of: &'a Subject,
    before: (f64, f64),
}

impl<'a> Hits<'a> {
    fn begin(of: &'a Subject) -> Self {
        Self { of, before: Self::counts(of) }
    }

    /// Hits, and all gets that could have been some.
    fn counts(of: &Subject) -> (f64, f64) {
        let count = |result: &str| of.series(&format!("hookcache_l1_lookups_total{{result=\"{result}\"}}"));
        let hits = count("hit");
        (hits, hits + count("miss") + count("bypass"))
    }

    fn share(&self) -> f64 {
        let (hits, all) = Self::counts(self.of);
        (hits - self.before.0) / (all - self.before.1).max(1.0)
    }
}

fn prefix(bytes: usize) -> String {
    format!("get-{bytes}-")
}

fn rows(stage: &Stage, args: &Args, report: &mut Report, subjects: &[&Subject], bytes: usize) {
    let mut all = vec![Figures::default(); subjects.len()];
    // A first round that is not counted fills what there is to be filled.
    for subject in subjects {
        round(
            &subject.get(&subject.get_path(&prefix(bytes))),
            1,
            &subject.process,
            &stage.redis,
            &mut Figures::default(),
        );
    }
    let hits: Vec<Hits<'_>> =
        subjects.iter().filter(|subject| subject.is_hookcache()).map(|of| Hits::begin(of)).collect();
    for _ in 0..args.rounds {
        for (subject, figures) in subjects.iter().zip(&mut all) {
            let path = subject.get_path(&prefix(bytes));
            round(&subject.get(&path), args.seconds, &subject.process, &stage.redis, figures);
        }
    }
    let table = |report: &mut Report, columns: &[Column], cell: &dyn Fn(&Column, &Figures) -> String| {
        let head: Vec<&str> = std::iter::once("").chain(columns.iter().map(|(name, ..)| *name)).collect();
        let row = |(subject, figures): (&&Subject, &Figures)| {
            std::iter::once(subject.name.clone()).chain(columns.iter().map(|column| cell(column, figures))).collect()
        };
        report.table(&head, &subjects.iter().zip(&all).map(row).collect::<Vec<_>>());
    };
    table(report, &COLUMNS, &|(_, digits, figure), figures| figure(figures).spread(*digits));
    let told = hits.iter().map(|hits| format!("{} {:.1} %", hits.of.name, hits.share() * 100.0));
    report.say(&format!("Answered from memory: {}.", told.collect::<Vec<_>>().join("; ")));
    // Nobody asks Redis for the bare server: no figure is a ratio to that.
    let without_redis: Vec<Column> = COLUMNS.into_iter().filter(|(name, ..)| *name != "CPU Redis").collect();
    for (whom, name, columns) in [(BARE, "the bare server", &without_redis[..]), (WEBDIS, "webdis", &COLUMNS)] {
        report.say(&format!("As ratios to {name}:"));
        table(report, columns, &|(_, _, figure), figures| figure(figures).over(&figure(&all[whom])).spread(2));
    }
}
