//! From messages to jobs. What is about one page is one job: one read answers all of it.

use std::collections::HashMap;

use crate::buffer::Delivery;
use crate::envelope::{Poison, SiteId};
use crate::source::confluence::{EventName, PageTask, What};

/// What is worked on as one.
#[derive(Debug)]
pub enum Job {
    Page(PageJob),
    Other(PageTask),
}

/// What was told of one page since it was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageJob {
    pub site: SiteId,
    pub page: u64,
    /// The latest event, and when it arrived, milliseconds since the epoch.
    pub event: EventName,
    pub at_ms: u64,
    /// Its id, under which logs know it.
    pub id: String,
    /// When the first of them arrived.
    pub first_ms: u64,
    /// The highest version that they tell.
    pub version: Option<u64>,
}

/// Messages and the one job that they ask for.
#[derive(Debug)]
pub struct Work {
    pub messages: Vec<Delivery>,
    pub job: Job,
}

/// In the order of the messages, and what is no task.
pub fn sorted(batch: Vec<Delivery>, now_ms: u64) -> (Vec<Work>, Vec<(Delivery, Poison)>) {
    let (mut works, mut poison) = (Vec::<Work>::new(), Vec::new());
    let mut of_pages = HashMap::new();
    for message in batch {
        let task = match PageTask::decode(&message.body, now_ms) {
            Ok(task) => task,
            Err(its) => {
                poison.push((message, its));
                continue;
            }
        };
        let What::Page { page, event, version } = task.what else {
            works.push(Work { messages: vec![message], job: Job::Other(task) });
            continue;
        };
        let PageTask { id, at_ms, site, .. } = task;
        let known = of_pages.get(&(site.clone(), page)).and_then(|at: &usize| works.get_mut(*at));
        match known {
            Some(Work { messages, job: Job::Page(job) }) => {
                messages.push(message);
                job.version = job.version.max(version);
                job.first_ms = job.first_ms.min(at_ms);
                if at_ms >= job.at_ms {
                    (job.event, job.at_ms, job.id) = (event, at_ms, id);
                }
            }
            _ => {
                of_pages.insert((site.clone(), page), works.len());
                let job = PageJob { site, page, event, at_ms, id, first_ms: at_ms, version };
                works.push(Work { messages: vec![message], job: Job::Page(job) });
            }
        }
    }
    (works, poison)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{MessageId, Receipt};
    use crate::envelope::{Account, Stamp};
    use crate::source::confluence::Lifecycle;

    const NOW: u64 = 1_767_225_600_000;

    fn message(n: u64, site: &str, what: What) -> Delivery {
        let stamp = Stamp { id: format!("id{n}"), at_ms: NOW + n };
        let task = PageTask::new(stamp, SiteId::parse(site).unwrap(), Account::parse("a").unwrap(), what);
        let (message_id, receipt) = (MessageId(n.to_string()), Receipt(n.to_string()));
        Delivery { message_id, receipt, body: task.encode().body, receive_count: 1, traceparent: None }
    }

    fn page(page: u64, event: EventName, version: Option<u64>) -> What {
        What::Page { page, event, version }
    }

    #[test]
    fn what_is_about_one_page_is_one_job_with_the_latest_event_and_the_highest_version() {
        use EventName::{PageCreated, PageRemoved, PageUpdated};
        let mut garbage = message(9, "a", page(1, PageCreated, None));
        garbage.body = "{}".into();
        let batch = vec![
            message(3, "a", page(1, PageUpdated, Some(4))),
            message(2, "a", page(1, PageCreated, Some(5))),
            message(5, "b", page(1, PageUpdated, None)),
            garbage,
            message(6, "a", What::Lifecycle(Lifecycle::Enabled)),
            message(4, "a", page(1, PageRemoved, None)),
        ];
        let (works, poison) = sorted(batch, NOW);
        assert_eq!(poison.len(), 1);
        let ids: Vec<Vec<&str>> =
            works.iter().map(|work| work.messages.iter().map(|m| m.message_id.0.as_str()).collect()).collect();
        assert_eq!(ids, [vec!["3", "2", "4"], vec!["5"], vec!["6"]]);
        let Job::Page(job) = &works[0].job else { panic!("a page") };
        let want = PageJob {
            site: SiteId::parse("a").unwrap(),
            page: 1,
            event: PageRemoved,
            at_ms: NOW + 4,
            id: "id4".into(),
            first_ms: NOW + 2,
            version: Some(5),
        };
        assert_eq!(*job, want);
        assert!(matches!(works[2].job, Job::Other(_)));
    }
}
