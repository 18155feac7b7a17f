//! The real program, killed with SIGKILL while it reads a site: what it had done stays done, and it goes on from there.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{ConfluenceStandIn, ON, TOKEN, confluence, prints, secret};
use crate::support::confluence::Odd;
use crate::support::stack::Stack;
use crate::support::{Hookcache, Postgres, TempDir, eventually, eventually_within, http_get, http_post};

/// Pages of one part of a list, and of one step of what comes after it: what a kill repeats at most.
const LISTED_AT_ONCE: usize = 100;
const SWEPT_AT_ONCE: usize = 20;
/// The stand-in takes this long for an answer, so that a kill finds work in hand.
const ANSWER_TAKES: Duration = Duration::from_millis(20);

/// A program that reads `acme`, and how often it was killed.
struct Reading {
    stand_in: ConfluenceStandIn,
    hookcache: Hookcache,
    random: Rng,
    kills: usize,
    pages: u64,
    _folder: TempDir,
}

impl Reading {
    /// Of a site with this many pages, which nobody has read yet.
    async fn of(pages: u64, seed: u64) -> Self {
        println!("seed {seed}");
        let (stand_in, folder) = (ConfluenceStandIn::start().await, TempDir::new().unwrap());
        (1..=pages).for_each(|page| stand_in.add_page(page, "Page", &body(page, 1)));
        stand_in.script(|_| Some(Odd::Slow(ANSWER_TAKES)));
        let fast = [ON[0], ("HOOKCACHE_CONFLUENCE__REQUESTS_PER_SECOND", "1000")];
        let hookcache = Hookcache::start(&[], &fast).await;
        add(&hookcache, &stand_in, &folder);
        Self { stand_in, hookcache, random: Rng::with_seed(seed), kills: 0, pages, _folder: folder }
    }

    fn lists(&self) -> usize {
        self.stand_in.count("/api/v2/pages?")
    }

    /// Reads of single pages.
    fn reads(&self) -> usize {
        self.stand_in.count("/api/v2/pages/")
    }

    /// Kills it so often, each time in the middle of one of the next `calls`, and starts it again.
    async fn kill(&mut self, times: usize, calls: usize) {
        for _ in 0..times {
            let at = self.stand_in.calls().len() + self.random.usize(1..=calls);
            // Fewer calls are left where a kill came late in the last round.
            eventually("calls, or the end", async || {
                (self.stand_in.calls().len() >= at || has_ended(&self.hookcache).await).then_some(())
            })
            .await;
            tokio::time::sleep(Duration::from_millis(self.random.u64(0..30))).await;
            self.hookcache.start_again().await;
            self.kills += 1;
        }
    }

    /// Waits until the run of this number has ended well.
    async fn until_ended(&self, number: u64) -> Value {
        let run = eventually(&format!("the end of run {number}"), async || {
            let runs = runs(&self.hookcache).await;
            runs.into_iter().find(|run| run["number"] == number && run["endedAt"].is_string())
        })
        .await;
        assert_eq!(run["state"], "succeeded", "{run}");
        run
    }

    /// Reads the site for the first time, killed so often.
    async fn first(&mut self, kills: usize) {
        let parts = (self.pages as usize).div_ceil(LISTED_AT_ONCE);
        self.kill(kills, parts.div_ceil(kills)).await;
        let run = self.until_ended(1).await;
        assert_eq!((&run["pagesSeen"], &run["scope"]), (&self.pages.into(), &"full".into()));
        assert!(self.lists() <= parts + self.kills, "{} lists, {} kills", self.lists(), self.kills);
        assert_eq!(self.reads(), 0, "a list brings the bodies");
        let status = http_get(&format!("{}/v1/sites/acme/reindex", self.hookcache.admin_url())).await.json();
        assert_eq!((&status["complete"], &status["pagesKnown"]), (&true.into(), &self.pages.into()));
        self.until_readable(|page| Some(format!("https://example.com/{page}/1"))).await;
    }

    /// Reads it again, after much has changed that no event told.
    async fn again(&mut self, kills: usize) {
        let (lists, reads, before) = (self.lists(), self.reads(), self.kills);
        let is_gone = |page: u64| page.is_multiple_of(4);
        for page in 1..=self.pages {
            match is_gone(page) {
                true => self.stand_in.remove(page),
                false => _ = self.stand_in.edit(page, &body(page, 2)),
            }
        }
        prints(&confluence(&self.hookcache, &["reindex", "--site", "acme", "--full", "--no-wait"]));
        eventually("it has begun", async || (self.lists() > lists).then_some(())).await;
        let gone = self.pages as usize / 4;
        let parts = (self.pages as usize - gone).div_ceil(LISTED_AT_ONCE);
        self.kill(kills, (parts + gone).div_ceil(kills)).await;
        let run = self.until_ended(2).await;
        assert_eq!(run["pagesSeen"], self.pages - gone as u64, "{run}");
        let (lists, reads, kills) = (self.lists() - lists, self.reads() - reads, self.kills - before);
        assert!(lists <= parts + kills, "{lists} lists, {kills} kills");
        assert!((gone..=gone + SWEPT_AT_ONCE * kills).contains(&reads), "{reads} reads, {kills} kills");
        self.until_readable(|page| (!is_gone(page)).then(|| format!("https://example.com/{page}/2"))).await;
    }

    /// Waits until each page has this link, or, for `None`, is not there.
    async fn until_readable(&self, link: impl Fn(u64) -> Option<String>) {
        let url = format!("{}/v1/get", self.hookcache.url());
        for first in (1..=self.pages).step_by(LISTED_AT_ONCE) {
            let some = first..=self.pages.min(first + LISTED_AT_ONCE as u64 - 1);
            let keys: Vec<String> = some.clone().map(super::key).collect();
            let request = json!({ "webhookKeys": keys }).to_string();
            eventually(&format!("pages from {first} on"), async || {
                let found = http_post(&url, request.clone()).await.json();
                let is_right = |page: u64| {
                    let told = &found["entries"][super::key(page)]["data"]["links"][0]["url"];
                    told.as_str().map(str::to_owned) == link(page)
                };
                some.clone().all(is_right).then_some(())
            })
            .await;
        }
    }
}

fn body(page: u64, version: u64) -> String {
    format!(r#"<p><a href="https://example.com/{page}/{version}">a</a></p>"#)
}

fn add(hookcache: &Hookcache, stand_in: &ConfluenceStandIn, folder: &TempDir) {
    let (base_url, token) = (stand_in.cloud(), secret(folder, "token", TOKEN));
    let site = ["add", "--site", "acme", "--account", "acme", "--base-url", &base_url, "--bearer-file", &token];
    prints(&confluence(hookcache, &site));
}

/// The runs of `acme`, newest first.
async fn runs(hookcache: &Hookcache) -> Vec<Value> {
    let status = http_get(&format!("{}/v1/sites/acme/reindex", hookcache.admin_url())).await.json();
    status["runs"].as_array().cloned().expect("a list")
}

async fn has_ended(hookcache: &Hookcache) -> bool {
    runs(hookcache).await.first().is_some_and(|run| run["endedAt"].is_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_in_mid_sweep_goes_on_where_it_was() {
    let mut reading = Reading::of(250, fastrand::u64(..)).await;
    reading.first(1).await;
    reading.again(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_kills_at_many_points_cost_a_part_each_at_most() {
    for _ in 0..4 {
        let mut reading = Reading::of(600, fastrand::u64(..)).await;
        reading.first(5).await;
        reading.again(8).await;
    }
}

/// Two processes read sites over one registry; the one that holds the run is killed, and never comes back.
#[tokio::test(flavor = "multi_thread")]
async fn long_another_process_takes_over_when_the_lease_is_over() {
    const PAGES: u64 = 900;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let (stack, postgres, stand_in) = tokio::join!(Stack::start(), Postgres::start(), ConfluenceStandIn::start());
    (1..=PAGES).for_each(|page| stand_in.add_page(page, "Page", &body(page, 1)));
    let folder = TempDir::new().unwrap();
    let (key, queues) = (secret(&folder, "key", &"5".repeat(64)), stack.sqs.queues("pages").await);
    let toml = format!(
        "[confluence]\nenabled = true\nrequests_per_second = 1000\n[registry]\nurl = \"{}\"\nkey_file = \
         \"{key}\"\n[pages]\nqueue_url = \"{}\"\ndead_letter_url = \"{}\"\n",
        postgres.database("registry"),
        queues.queue_url,
        queues.dead_letter_url
    );
    let role = async |roles: &str| stack.hookcache(&toml, &["--roles", roles]).await;
    let front = role("set,consume,get,admin,pages").await;
    let mut readers = vec![role("reindex").await, role("reindex").await];
    // Slow enough for the kill to come while it reads.
    stand_in.script(|call| call.path.contains("/api/v2/pages?").then_some(Odd::Slow(Duration::from_millis(300))));
    add(&front, &stand_in, &folder);
    let at = random.usize(1..=8);
    eventually("lists", async || (stand_in.count("/api/v2/pages?") >= at).then_some(())).await;
    let holds = |reader: &Hookcache| reader.captured().stderr.contains("a reindex begins, or goes on");
    let of_holder = eventually("who holds it", async || readers.iter().position(holds)).await;
    let mut holder = readers.remove(of_holder);
    holder.kill9();
    let ended = async || has_ended(&front).await.then_some(());
    eventually_within(Duration::from_secs(120), "the end", ended).await;
    let run = runs(&front).await.remove(0);
    assert_eq!((&run["number"], &run["state"], &run["pagesSeen"]), (&1.into(), &"succeeded".into(), &PAGES.into()));
    assert!(holds(&readers[0]), "the other one has gone on");
    assert!(stand_in.count("/api/v2/pages?") <= 10, "{}", stand_in.count("/api/v2/pages?"));
    for page in 1..=PAGES {
        let reply = async || {
            let url = format!("{}/v1/keys/{}", front.url(), super::key(page));
            Some(http_get(&url).await).filter(|reply| reply.text().contains(&format!("/{page}/1")))
        };
        eventually(&format!("page {page}"), reply).await;
    }
}
