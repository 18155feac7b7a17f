//! One run, from claimed to ended or given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lease::Held;
use super::put::Put;
use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::backoff;
use crate::confluence::{Access, Credential};
use crate::envelope::SiteId;
use crate::page::{self, Archived, Home, IndexFacts};
use crate::registry::{Ended, JoinedBy, Phase, Run, Site, SiteState, Waiting};
use crate::source::confluence::ReindexScope;

/// Waits between tries of a step that went wrong, unless the site names a longer one.
const TRY_MIN: Duration = Duration::from_secs(1);
const TRY_MAX: Duration = Duration::from_secs(60);
/// A run that must wait for longer is given back meanwhile.
const WAIT_IN_HAND_MAX: Duration = Duration::from_secs(20);
/// Longest wait that a site can ask for.
const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// An answer that makes no sense, this often in a row, fails the run.
const ODD_MAX: u32 = 4;
/// A run that waits and waits, or lists and lists, fails in the end, so that the reason is seen and a new one may begin.
const AGE_MAX: Duration = Duration::from_secs(2 * 86_400);
/// How long a run waits for a token that comes with the next event, before it looks again.
const TOKEN_WAIT: Duration = Duration::from_secs(60);
/// How often a run says in the log how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The site that a run reads, and as whom.
pub struct Target {
    pub site: Site,
    pub access: Access,
    pub home: Arc<Home>,
}

impl Target {
    /// The same, once it is known what the site calls itself.
    pub fn named(&self, site: Site, archived: Archived) -> Self {
        let home = Arc::new(site.home(archived));
        Self { access: self.access.clone(), home, site }
    }
}

/// What a step has come to.
pub enum Progress {
    On(Run),
    /// All is read.
    Done(Run),
}

/// What becomes of a run that is worked on no more.
enum End {
    Success(Box<Run>),
    Failure(String),
    /// Another goes on, at once or when what it waits for is over.
    GiveBack(Option<Waiting>),
    /// Another has it, or its site is not active any more.
    NotOurs,
}

/// How often in a row it went wrong.
#[derive(Default)]
struct Tries {
    all: u32,
    odd: u32,
}

impl Reindexer {
    /// Works on a run until it ends, must wait for long, is lost, or `stop`.
    pub(super) async fn carry(&self, mut held: Held, stop: &CancellationToken) {
        let Run { site, number, scope, pages_seen, .. } = held.run().clone();
        tracing::info!(%site, number, ?scope, pages_seen, "a reindex begins, or goes on");
        match stop.run_until_cancelled(self.work(&mut held)).await.unwrap_or(End::GiveBack(None)) {
            End::Success(run) => self.end(held, *run, None).await,
            End::Failure(why) => {
                let run = held.run().clone();
                self.end(held, run, Some(why)).await;
            }
            End::GiveBack(waiting) => self.give_back(held, waiting).await,
            End::NotOurs => {
                tracing::info!(%site, number, "a reindex is let go: its site, its scope or its holder has changed");
                let waiting = held.run().waiting.clone();
                self.give_back(held, waiting).await;
            }
        }
    }

    async fn work(&self, held: &mut Held) -> End {
        let (mut put, mut tries, mut told) = (Put::default(), Tries::default(), Instant::now());
        loop {
            let trouble = match self.step(held, &mut put).await {
                Ok(None) => {
                    tries = Tries::default();
                    if told.elapsed() >= TELL_EVERY {
                        told = Instant::now();
                        let Run { site, number, pages_seen, pages_changed, pages_swept, .. } = held.run();
                        tracing::info!(%site, number, pages_seen, pages_changed, pages_swept, "a reindex goes on");
                    }
                    continue;
                }
                Ok(Some(end)) => return end,
                Err(trouble) => trouble,
            };
            let waited = match trouble {
                Trouble::Gone => {
                    self.take_back_if_removed(&held.run().site, &put).await;
                    return End::NotOurs;
                }
                Trouble::Hopeless(why) => return End::Failure(why),
                Trouble::Unauthorized(why) => {
                    let site = &held.run().site;
                    return End::Failure(format!(
                        "{why}. Give it one that may read the pages: `hookcache confluence add --site {site} ...`"
                    ));
                }
                Trouble::Odd(why) if tries.odd + 1 >= ODD_MAX => return End::Failure(why),
                Trouble::Odd(why) => {
                    tries.odd += 1;
                    self.wait(held, &mut tries, None, why).await
                }
                Trouble::Later { after, why } => self.wait(held, &mut tries, after, why).await,
            };
            match waited {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(_) => {
                    self.take_back_if_removed(&held.run().site, &put).await;
                    return End::NotOurs;
                }
            }
        }
    }

    /// One step, and the place after it kept.
    async fn step(&self, held: &mut Held, put: &mut Put) -> Result<Option<End>, Trouble> {
        let run = held.run().clone();
        self.check_list_age(&run)?;
        match held.during(self.read_some(&run, put)).await?? {
            Progress::On(next) => {
                held.keep(Run { waiting: None, ..next.clone() }).await?;
                put.clear();
                self.count(&run, &next);
                Ok(None)
            }
            // Kept with its end, so that a crash before it does not count the last part twice.
            Progress::Done(next) => {
                held.during(self.tell_index(&next)).await??;
                self.count(&run, &next);
                Ok(Some(End::Success(Box::new(next))))
            }
        }
    }

    /// A list that names ever new pages is never at its end.
    fn check_list_age(&self, run: &Run) -> Result<(), Trouble> {
        let age_ms = run.began_ms.map_or(0, |began_ms| self.clock().now_ms().saturating_sub(began_ms));
        if run.phase == Phase::Listing && age_ms > AGE_MAX.as_millis() as u64 {
            let (days, pages) = (AGE_MAX.as_secs() / 86_400, run.pages_seen);
            return Err(Trouble::Hopeless(format!(
                "the site's list of pages does not end: it has named {pages} pages in {days} days"
            )));
        }
        Ok(())
    }

    async fn read_some(&self, run: &Run, put: &mut Put) -> Result<Progress, Trouble> {
        let target = self.target(run).await?;
        let done = match run.phase {
            Phase::Listing => self.list_part(&target, run, put).await,
            Phase::Sweeping => self.sweep_some(&target, run, put).await,
        };
        done.map_err(|trouble| match (trouble, &target.access.credential) {
            // Such a token ends early now and then.
            (Trouble::Unauthorized(why), Credential::Forge { .. }) => waits_for_token(&why),
            (trouble, _) => trouble,
        })
    }

    /// As the registry has the site now: what was changed by the operator, or by the site, holds from the next step on.
    async fn target(&self, run: &Run) -> Result<Target, Trouble> {
        let site = self.active(&run.site).await?;
        let credential = match self.registry.credential(&run.site).await? {
            Some(Credential::Forge { expires_ms, .. }) if expires_ms <= self.clock().now_ms() => {
                return Err(waits_for_token("the token of the last event has expired"));
            }
            Some(credential) => credential,
            None if site.joined_by == JoinedBy::Forge => return Err(waits_for_token("the site has sent no token yet")),
            None => {
                let why = "it is not known as whom to ask the site: give it a credential, `hookcache confluence add`";
                return Err(Trouble::Hopeless(why.to_owned()));
            }
        };
        let (access, home) = (site.access(credential), Arc::new(site.home(self.archived)));
        Ok(Target { site, access, home })
    }

    pub(super) async fn active(&self, site: &SiteId) -> Result<Site, Trouble> {
        let site = self.registry.site(site).await?;
        site.filter(|site| site.state == SiteState::Active).ok_or(Trouble::Gone)
    }

    fn count(&self, before: &Run, after: &Run) {
        self.metrics.reindexed(
            after.pages_seen - before.pages_seen,
            after.pages_changed - before.pages_changed,
            after.pages_swept - before.pages_swept,
        );
    }

    /// Tells whoever asks for links how old the index is. On the same road as the pages, so that it comes behind them.
    async fn tell_index(&self, run: &Run) -> Result<(), Trouble> {
        let site = self.active(&run.site).await?;
        let (_, last_full_ms) = self.registry.last_success(&run.site).await?;
        let complete = run.scope == ReindexScope::Full || last_full_ms.is_some();
        let index = IndexFacts { complete, last_reindex_ms: run.began_ms };
        let form = page::index_stored(self.stamper.stamp(), &site.id, &site.account, &index);
        self.road.append(form).await?;
        Ok(())
    }

    /// Waits with the run in hand, or says for how long it must be given back.
    async fn wait(
        &self,
        held: &mut Held,
        tries: &mut Tries,
        after: Option<Duration>,
        why: String,
    ) -> Result<Option<End>, Trouble> {
        self.metrics.reindex_put_off();
        let run = held.run().clone();
        let now_ms = self.clock().now_ms();
        let began_ms = run.began_ms.unwrap_or(run.asked_ms).max(run.asked_ms);
        if now_ms.saturating_sub(began_ms) > AGE_MAX.as_millis() as u64 {
            let days = AGE_MAX.as_secs() / 86_400;
            return Ok(Some(End::Failure(format!("not at its end after {days} days; it waited last, as {why}"))));
        }
        let wait = backoff::wait(tries.all, TRY_MIN, TRY_MAX).max(after.unwrap_or_default()).min(WAIT_MAX);
        tries.all = tries.all.saturating_add(1);
        let waiting = Waiting { until_ms: now_ms.saturating_add(wait.as_millis() as u64), why };
        if wait > WAIT_IN_HAND_MAX {
            return Ok(Some(End::GiveBack(Some(waiting))));
        }
        tracing::warn!(site = %run.site, number = run.number, ?wait, why = waiting.why, "a reindex waits");
        held.keep(Run { waiting: Some(waiting), ..run }).await?;
        held.during(sleep(wait)).await?;
        Ok(None)
    }

    async fn give_back(&self, held: Held, waiting: Option<Waiting>) {
        let (run, lease) = held.into_parts();
        let Run { site, number, pages_seen, .. } = &run;
        let waits_for = waiting.as_ref().map(|waiting| waiting.why.as_str());
        tracing::info!(%site, number, pages_seen, waits_for, "a reindex is given back, unfinished");
        if let Err(error) = self.registry.release_run(&Run { waiting: waiting.clone(), ..run.clone() }, &lease).await {
            tracing::warn!(%site, number, %error, "it goes on when its lease is over");
        }
    }

    async fn end(&self, held: Held, run: Run, error: Option<String>) {
        let (_, lease) = held.into_parts();
        let ended = Ended { at_ms: self.clock().now_ms(), error };
        let Run { site, number, pages_seen, pages_changed, pages_swept, .. } = &run;
        match self.registry.end_run(&run, &lease, &ended).await {
            Ok(true) => self.metrics.reindex_ended(ended.error.is_none()),
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%site, number, %error, "the end of a reindex could not be kept; it ends once more");
                return;
            }
        }
        match &ended.error {
            None => tracing::info!(%site, number, pages_seen, pages_changed, pages_swept, "a reindex has ended well"),
            Some(why) => {
                tracing::warn!(%site, number, pages_seen, pages_changed, pages_swept, why, "a reindex has failed")
            }
        }
    }
}

fn waits_for_token(why: &str) -> Trouble {
    Trouble::Later { after: Some(TOKEN_WAIT), why: format!("{why}; the next event of the site brings a new one") }
}
