//! Pods, and a Deployment that replaces them one by one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::sleep;

use super::parsed;
use super::service::Service;
use crate::kubernetes::{Start, Update};
use crate::support::Hookcache;

/// What is waited out in full is this much shorter here.
const SHORTER: u32 = 40;
/// When all who call a pod have learned that it goes, after it began to. Kubernetes promises no time; the policies ask for a
/// `preStop` of 5 s.
const ALL_LEARN_AFTER: Duration = Duration::from_secs(4);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    ByItself,
    /// By SIGKILL, as its time was over.
    Killed,
}

/// What happens to a pod that is to go.
enum Step {
    /// It is no endpoint any more, and all know.
    Left,
    /// SIGTERM, after `preStop`. It is not ready from then on.
    Terminated,
}

pub struct Deployment {
    pub workload: Start,
    env: Vec<(String, String)>,
    service: Option<Arc<Service>>,
    pods: Vec<Hookcache>,
    /// How those that were replaced ended.
    pub ends: Vec<End>,
    /// What they wrote.
    written: String,
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.workload.name, self.written)
    }
}

impl Deployment {
    pub async fn start(
        workload: Start,
        env: Vec<(String, String)>,
        service: Option<Arc<Service>>,
        pods: usize,
    ) -> Self {
        assert_eq!(workload.probes[1], "/readyz", "what a new process is waited for by");
        let mut this = Self { workload, env, service, pods: Vec::new(), ends: Vec::new(), written: String::new() };
        for pod in join_all((0..pods).map(|_| this.ready())).await {
            this.add(pod).await;
        }
        this
    }

    pub fn pods(&self) -> impl Iterator<Item = &Hookcache> {
        self.pods.iter()
    }

    /// Replaces each of its pods, one more being there meanwhile.
    pub async fn update(&mut self) {
        assert_eq!(self.workload.update, Update { max_surge: Some(1), max_unavailable: Some(0) });
        for _ in 0..self.pods.len() {
            let pod = self.ready().await;
            self.add(pod).await;
            self.remove_oldest().await;
        }
    }

    /// All lines that its pods have written so far.
    pub async fn logs(&self) -> Vec<Value> {
        let mut written = self.written.clone();
        for pod in &self.pods {
            let log = pod.captured().stderr;
            // The last line may be half written yet.
            written += &log[..log.rfind('\n').map_or(0, |end| end + 1)];
        }
        written.lines().map(parsed).collect()
    }

    /// One more that is ready.
    async fn ready(&self) -> Hookcache {
        let args: Vec<&str> = self.workload.args[1..].iter().map(String::as_str).collect();
        let env: Vec<_> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Hookcache::start(&args, &env).await
    }

    /// From now on it gets requests.
    async fn add(&mut self, pod: Hookcache) {
        if let Some(service) = &self.service {
            service.join(&address(&pod)).await;
        }
        self.pods.push(pod);
    }

    /// Kubernetes begins both at once: to tell all who call it, and to stop it.
    async fn remove_oldest(&mut self) {
        let mut pod = self.pods.remove(0);
        let pre_stop = Duration::from_secs(self.workload.pre_stop_seconds);
        let mut steps = vec![(pre_stop, Step::Terminated)];
        steps.extend(self.service.is_some().then_some((ALL_LEARN_AFTER, Step::Left)));
        steps.sort_by_key(|(at, _)| *at);
        let mut now = Duration::ZERO;
        for (at, step) in steps {
            sleep((at - now) / SHORTER).await;
            now = at;
            match (step, &self.service) {
                (Step::Left, Some(service)) => service.leave(&address(&pod)).await,
                (Step::Left, None) => {}
                (Step::Terminated, _) => pod.signal("TERM"),
            }
        }
        let left = Duration::from_secs(self.workload.grace_seconds).saturating_sub(pre_stop);
        self.ends.push(ended_within(&mut pod, left).await);
        let log = pod.captured().stderr;
        self.written += &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    }
}

async fn ended_within(pod: &mut Hookcache, left: Duration) -> End {
    let since = Instant::now();
    while !pod.has_ended() {
        if since.elapsed() > left {
            pod.kill9();
            return End::Killed;
        }
        sleep(POLL_INTERVAL).await;
    }
    let status = pod.until_exit().await;
    assert!(status.success(), "{status}: {}", pod.captured().stderr);
    End::ByItself
}

/// Of its data plane.
fn address(pod: &Hookcache) -> String {
    pod.url().trim_start_matches("http://").to_owned()
}
