//! Reindexes: asked for, claimed, advanced, ended.
//!
//! A run is open until it ends, and at most one is open per site. It is its lease's holder who may change it: whoever
//! finds that the lease is another's, or that the run was widened, stops. An ended run is history.

use super::database::{Fault, Row, Sql, Value, clipped};
use super::{
    Backlog, Ended, Lease, Phase, RUNS_KEPT_MAX, Registry, ReindexScope, Run, SiteId, TEXT_CHARS_MAX, Unavailable,
    Waiting,
};

/// Runs that one claim tries for, before it leaves them to the others that claim at the same time.
const CANDIDATES_MAX: usize = 16;

const COLUMNS: &str = "site, number, scope, since_ms, asked_ms, began_ms, watermark_ms, phase, cursor, pages_seen, \
    pages_changed, pages_swept, waiting_until_ms, waiting_why, ended_ms, error";
/// Of the table `sites`.
const IS_ACTIVE: &str = "state = 'active' AND paused_ms IS NULL";
/// May be claimed at `$2`.
const IS_FREE: &str = "ended_ms IS NULL AND (lease_owner IS NULL OR lease_until_ms <= $2) AND (waiting_until_ms IS NULL \
    OR waiting_until_ms <= $2)";
/// Parameters of the progress of a run: the first ten are set, the others say which run, and whose.
const PROGRESS: &str = "began_ms = $1, watermark_ms = $2, phase = $3, cursor = $4, pages_seen = $5, pages_changed = $6, \
    pages_swept = $7, waiting_until_ms = $8, waiting_why = $9";
const IS_HELD: &str = "site = $10 AND number = $11 AND lease_owner = $12 AND ended_ms IS NULL";

impl Registry {
    /// Asks for a reindex. Where one is open that covers it, that one stands, with `asked_ms` = `now_ms`. Where the open
    /// one is narrower, it takes the wider scope (full > the earlier `Since` > the later one, `SinceLast`) and begins
    /// anew, under a new number: who holds it loses it. Answers with the open run; `None` where there is no such site.
    pub async fn ask_for_run(
        &self,
        site: &SiteId,
        scope: ReindexScope,
        now_ms: u64,
    ) -> Result<Option<Run>, Unavailable> {
        let mut transaction = self.database().await?.begin().await?;
        // Whoever else asks for this site waits here.
        if transaction.execute("UPDATE sites SET site = site WHERE site = $1", vec![site.into()]).await? == 0 {
            return Ok(None);
        }
        let open = format!("SELECT {COLUMNS} FROM runs WHERE site = $1 AND ended_ms IS NULL");
        let open = transaction.one(Sql::Made(open), vec![site.into()]).await?;
        let open = open.as_ref().map(run_of).transpose()?;
        let run = match open {
            Some(open) if covers(open.scope, scope) => {
                let update = "UPDATE runs SET asked_ms = $1 WHERE site = $2 AND number = $3";
                transaction.execute(update, vec![now_ms.into(), site.into(), open.number.into()]).await?;
                Run { asked_ms: now_ms, ..open }
            }
            narrower => {
                let last = "SELECT MAX(number) AS number FROM runs WHERE site = $1";
                let last = transaction.one(last, vec![site.into()]).await?;
                let last = last.map_or(Ok(0), |row| row.number("number"))?;
                let forget = "DELETE FROM runs WHERE site = $1 AND ended_ms IS NULL";
                transaction.execute(forget, vec![site.into()]).await?;
                let waiting = narrower.and_then(|open| open.waiting);
                let run = Run { waiting, ..fresh(site, last + 1, scope, now_ms) };
                transaction.execute(insert(), insertion(&run)).await?;
                run
            }
        };
        transaction.commit().await?;
        self.0.run_asked.notify_one();
        Ok(Some(run))
    }

    /// Takes the open run of some active site, whose lease is free or over at `now_ms`, and which waits for nothing then
    /// ([`Run::waiting`]), for `owner` until `until_ms`. A SQLite registry has one process: what its last one held is
    /// free when it opens.
    pub async fn claim_run(&self, owner: &str, now_ms: u64, until_ms: u64) -> Result<Option<Run>, Unavailable> {
        let database = self.database().await?;
        let candidates = format!(
            "SELECT site, number FROM runs WHERE site IN (SELECT site FROM sites WHERE {IS_ACTIVE}) AND {IS_FREE} ORDER \
             BY asked_ms LIMIT $1"
        );
        let candidates = database.read(Sql::Made(candidates), vec![CANDIDATES_MAX.into(), now_ms.into()]).await?;
        for candidate in candidates {
            // Of several that try, one finds it free.
            let update = format!(
                "UPDATE runs SET lease_owner = $1, lease_until_ms = $3 WHERE site = $4 AND number = $5 AND {IS_FREE} \
                 RETURNING {COLUMNS}"
            );
            let (site, number) = (candidate.text("site")?, candidate.number("number")?);
            let values = vec![owner.into(), now_ms.into(), until_ms.into(), site.into(), number.into()];
            let taken = database.write_returning(Sql::Made(update), values).await?;
            if let Some(row) = taken.first() {
                return Ok(Some(run_of(row)?));
            }
        }
        Ok(None)
    }

    /// Keeps the run and its progress, and renews the lease. False where the lease is another's, or the run, its scope or
    /// its site is not what it was (or not active any more): the caller stops.
    pub async fn advance_run(&self, run: &Run, lease: &Lease) -> Result<bool, Unavailable> {
        let update = format!(
            "UPDATE runs SET {PROGRESS}, lease_until_ms = $13 WHERE {IS_HELD} AND site IN (SELECT site FROM sites WHERE \
             {IS_ACTIVE})"
        );
        let mut values = held(run, lease);
        values.push(lease.until_ms.into());
        Ok(self.database().await?.write(Sql::Made(update), values).await? > 0)
    }

    /// Keeps the run as [`Self::advance_run`] does and gives it back unfinished, so that another may go on at once, or as
    /// soon as what it waits for is over. Does nothing where the lease is another's.
    pub async fn release_run(&self, run: &Run, lease: &Lease) -> Result<(), Unavailable> {
        let update = format!("UPDATE runs SET {PROGRESS}, lease_owner = NULL, lease_until_ms = NULL WHERE {IS_HELD}");
        self.database().await?.write(Sql::Made(update), held(run, lease)).await?;
        Ok(())
    }

    /// Ends the run. False as with [`Self::advance_run`].
    pub async fn end_run(&self, run: &Run, lease: &Lease, ended: &Ended) -> Result<bool, Unavailable> {
        let mut transaction = self.database().await?.begin().await?;
        let update = format!(
            "UPDATE runs SET {PROGRESS}, lease_owner = NULL, lease_until_ms = NULL, ended_ms = $13, error = $14 WHERE \
             {IS_HELD} AND site IN (SELECT site FROM sites WHERE {IS_ACTIVE})"
        );
        let finished = Run { waiting: None, ..run.clone() };
        let mut values = held(&finished, lease);
        values.push(ended.at_ms.into());
        values.push(ended.error.as_deref().map(|error| clipped(error, TEXT_CHARS_MAX)).into());
        if transaction.execute(Sql::Made(update), values).await? == 0 {
            return Ok(false);
        }
        if ended.error.is_none()
            && let Some((update, values)) = success(run)
        {
            transaction.execute(update, values).await?;
        }
        let forget = "DELETE FROM runs WHERE site = $1 AND ended_ms IS NOT NULL AND number NOT IN (SELECT number FROM runs \
                      WHERE site = $1 AND ended_ms IS NOT NULL ORDER BY number DESC LIMIT $2)";
        transaction.execute(forget, vec![(&run.site).into(), RUNS_KEPT_MAX.into()]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The open run, and the last ones that ended, newest first. At most `limit`.
    pub async fn runs(&self, site: &SiteId, limit: usize) -> Result<Vec<Run>, Unavailable> {
        let select = format!("SELECT {COLUMNS} FROM runs WHERE site = $1 ORDER BY number DESC LIMIT $2");
        let rows = self.database().await?.read(Sql::Made(select), vec![site.into(), limit.into()]).await?;
        Ok(rows.iter().map(run_of).collect::<Result<_, _>>()?)
    }

    /// Of the runs that ended well: the start of the last one, and of the last full one. One that read what was changed
    /// since a given moment counts only where it left no gap behind the last success.
    pub async fn last_success(&self, site: &SiteId) -> Result<(Option<u64>, Option<u64>), Unavailable> {
        let select = "SELECT last_success_ms, last_full_ms FROM sites WHERE site = $1";
        let row = self.database().await?.read_one(select, vec![site.into()]).await?;
        let times = |row: Row| Ok((row.optional_number("last_success_ms")?, row.optional_number("last_full_ms")?));
        Ok(row.map_or(Ok((None, None)), times).map_err(|fault: Fault| fault)?)
    }

    /// Nothing that was read of the site counts any more: the next run is a full one, whoever asks for it.
    pub async fn forget_success(&self, site: &SiteId) -> Result<(), Unavailable> {
        let update = "UPDATE sites SET last_success_ms = NULL, last_full_ms = NULL WHERE site = $1";
        self.database().await?.write(update, vec![site.into()]).await?;
        Ok(())
    }

    /// Resolves once a run was asked for through this process since the last call of it: saves whoever claims runs from
    /// asking often. Wakes one waiter; may resolve for nothing.
    pub async fn run_asked(&self) {
        self.0.run_asked.notified().await;
    }

    /// One query.
    pub async fn backlog(&self) -> Result<Backlog, Unavailable> {
        let select = format!(
            "SELECT COUNT(runs.site) AS open_runs, MIN(COALESCE(sites.last_success_ms, sites.added_ms)) AS oldest_ms FROM \
             sites LEFT JOIN runs ON runs.site = sites.site AND runs.ended_ms IS NULL WHERE {IS_ACTIVE}"
        );
        let Some(row) = self.database().await?.read_one(Sql::Made(select), vec![]).await? else {
            return Ok(Backlog::default());
        };
        Ok(Backlog { open_runs: row.number("open_runs")?, oldest_ms: row.optional_number("oldest_ms")? })
    }
}

/// Does the open run read all that the asked one would?
fn covers(open: ReindexScope, asked: ReindexScope) -> bool {
    use ReindexScope::{Full, Since, SinceLast};
    match (open, asked) {
        (Full, _) | (Since(_) | SinceLast, SinceLast) => true,
        (Since(open), Since(asked)) => open <= asked,
        (Since(_) | SinceLast, Full) | (SinceLast, Since(_)) => false,
    }
}

/// A run that has not begun.
fn fresh(site: &SiteId, number: u64, scope: ReindexScope, asked_ms: u64) -> Run {
    Run {
        site: site.clone(),
        number,
        scope,
        asked_ms,
        began_ms: None,
        watermark_ms: None,
        phase: Phase::Listing,
        cursor: None,
        pages_seen: 0,
        pages_changed: 0,
        pages_swept: 0,
        waiting: None,
        ended: None,
    }
}

fn insert() -> Sql {
    "INSERT INTO runs (site, number, scope, since_ms, asked_ms, phase, pages_seen, pages_changed, pages_swept, \
     waiting_until_ms, waiting_why) VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, $7, $8)"
        .into()
}

fn insertion(run: &Run) -> Vec<Value> {
    let (scope, since_ms) = match run.scope {
        ReindexScope::Full => ("full", None),
        ReindexScope::SinceLast => ("since-last", None),
        ReindexScope::Since(since_ms) => ("since", Some(since_ms)),
    };
    let [until_ms, why] = waiting_values(run);
    vec![
        (&run.site).into(),
        run.number.into(),
        scope.into(),
        since_ms.into(),
        run.asked_ms.into(),
        phase_name(run.phase).into(),
        until_ms,
        why,
    ]
}

/// The parameters of [`PROGRESS`] and [`IS_HELD`].
fn held(run: &Run, lease: &Lease) -> Vec<Value> {
    let [until_ms, why] = waiting_values(run);
    vec![
        run.began_ms.into(),
        run.watermark_ms.into(),
        phase_name(run.phase).into(),
        run.cursor.as_deref().into(),
        run.pages_seen.into(),
        run.pages_changed.into(),
        run.pages_swept.into(),
        until_ms,
        why,
        (&run.site).into(),
        run.number.into(),
        lease.owner.as_str().into(),
    ]
}

fn waiting_values(run: &Run) -> [Value; 2] {
    let waiting = run.waiting.as_ref();
    let why = waiting.map(|waiting| clipped(&waiting.why, TEXT_CHARS_MAX));
    [waiting.map(|waiting| waiting.until_ms).into(), why.into()]
}

/// What a run that ended well changes of its site.
fn success(run: &Run) -> Option<(&'static str, Vec<Value>)> {
    let began_ms = run.began_ms?;
    let site = || Value::from(&run.site);
    Some(match run.scope {
        ReindexScope::Full => {
            ("UPDATE sites SET last_success_ms = $1, last_full_ms = $1 WHERE site = $2", vec![began_ms.into(), site()])
        }
        ReindexScope::SinceLast => {
            ("UPDATE sites SET last_success_ms = $1 WHERE site = $2", vec![began_ms.into(), site()])
        }
        ReindexScope::Since(since_ms) => (
            "UPDATE sites SET last_success_ms = $1 WHERE site = $2 AND last_success_ms >= $3",
            vec![began_ms.into(), site(), since_ms.into()],
        ),
    })
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Listing => "listing",
        Phase::Sweeping => "sweeping",
    }
}

fn run_of(row: &Row) -> Result<Run, Fault> {
    let (site, number) = (row.text("site")?, row.number("number")?);
    let strange =
        |what: &str| Fault::from(Unavailable(format!("run {number} of the site {site} has a strange {what}")));
    let waiting = row.optional_number("waiting_until_ms")?.zip(row.optional_text("waiting_why")?);
    let ended = row.optional_number("ended_ms")?;
    Ok(Run {
        number,
        scope: match row.text("scope")?.as_str() {
            "full" => ReindexScope::Full,
            "since-last" => ReindexScope::SinceLast,
            "since" => ReindexScope::Since(row.number("since_ms")?),
            _ => return Err(strange("scope")),
        },
        asked_ms: row.number("asked_ms")?,
        began_ms: row.optional_number("began_ms")?,
        watermark_ms: row.optional_number("watermark_ms")?,
        phase: match row.text("phase")?.as_str() {
            "listing" => Phase::Listing,
            "sweeping" => Phase::Sweeping,
            _ => return Err(strange("phase")),
        },
        cursor: row.optional_text("cursor")?,
        pages_seen: row.number("pages_seen")?,
        pages_changed: row.number("pages_changed")?,
        pages_swept: row.number("pages_swept")?,
        waiting: waiting.map(|(until_ms, why)| Waiting { until_ms, why }),
        ended: match ended {
            Some(at_ms) => Some(Ended { at_ms, error: row.optional_text("error")? }),
            None => None,
        },
        site: SiteId::parse(&site).map_err(|_| strange("name of a site"))?,
    })
}
