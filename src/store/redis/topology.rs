//! Who serves what: one primary that serves everything, or the primaries of a cluster, each for its slots.
//!
//! Each half has a topology of its own, of connections of its own kind (`C`): leases to write, shared ones to read.
//! What a caller sends is one list of commands with a slot each; [`Topology::scatter`] brings each to its node.

use std::sync::Arc;

use deadpool_redis::redis::{Cmd, Pipeline};

use super::cluster::Cluster;
use super::endpoint::{Endpoint, OpenError};
use super::fault::{Entry, Fault};
use super::primary::{Primary, Watched};
use super::slots::Slot;
use super::tracking::News;
use super::{MARK_KEY, Mode, Options};

/// Where the configuration leads.
pub(super) enum Site {
    One(Primary),
    /// Nodes of a cluster, of which one at least must be reachable at first.
    Cluster(Vec<Endpoint>),
}

/// Opens the connections to one primary.
pub(super) type Open<C> = Box<dyn Fn(&Primary, &Options) -> C + Send + Sync>;

pub(super) struct Topology<C>(Arc<Kind<C>>);

enum Kind<C> {
    One(Route<C>),
    Cluster(Cluster<C>),
}

/// How some commands come to the node that serves them.
pub(super) struct Route<C> {
    pub(super) node: Arc<C>,
    /// Keys that a record of ours may have there, of which the first one that is not on the move will do.
    pub(super) marks: Arc<[String]>,
    pub(super) entry: Entry,
}

impl Site {
    pub(super) fn new(options: &Options) -> Result<Self, OpenError> {
        match &options.mode {
            Mode::Standalone { url } => Ok(Self::One(Primary::Known(Arc::new(Endpoint::new(url, options)?)))),
            Mode::Sentinel { urls, master, username_file, password_file } => {
                let named = alike(urls, options)?;
                let (user, password) = ("store.sentinel_username_file", "store.sentinel_password_file");
                let as_guest =
                    |named: &Endpoint| named.for_user((user, username_file.clone()), (password, password_file.clone()));
                let sentinels = named.iter().map(as_guest).collect::<Result<_, _>>()?;
                let endpoint = named[0].clone();
                let watched = Watched { sentinels, first: 0.into(), name: master.clone(), endpoint };
                Ok(Self::One(Primary::Watched(Arc::new(watched))))
            }
            Mode::Cluster { urls } => {
                let seeds = alike(urls, options)?;
                match seeds[0].info().redis_settings().db() {
                    0 => Ok(Self::Cluster(seeds)),
                    _ => Err(OpenError::Urls("a cluster has no databases: leave out the number behind the host")),
                }
            }
        }
    }
}

/// At least one, and all for the same user.
fn alike(urls: &[String], options: &Options) -> Result<Vec<Endpoint>, OpenError> {
    let endpoints = urls.iter().map(|url| Endpoint::new(url, options)).collect::<Result<Vec<_>, _>>()?;
    match endpoints.split_first() {
        None => Err(OpenError::Urls("names no server")),
        Some((first, rest)) if !rest.iter().all(|other| first.is_alike(other)) => {
            Err(OpenError::Urls("all of its URLs must have the same scheme, user, password and database"))
        }
        Some(_) => Ok(endpoints),
    }
}

impl<C: Send + Sync + 'static> Topology<C> {
    /// With news, a cluster's map is made anew when it may be out of date, and told when it has changed.
    pub(super) fn new(site: &Site, options: &Options, open: Open<C>, news: Option<&News>) -> Self {
        Self(Arc::new(match site {
            Site::One(primary) => {
                let (node, marks) = (Arc::new(open(primary, options)), [MARK_KEY.to_owned()].into());
                Kind::One(Route { node, marks, entry: Entry::Served })
            }
            Site::Cluster(seeds) => Kind::Cluster(Cluster::new(seeds.clone(), options, open, news)),
        }))
    }

    /// Must all keys of one command lie in one slot?
    pub(super) fn has_slots(&self) -> bool {
        matches!(&*self.0, Kind::Cluster(_))
    }

    /// Sends `count` commands, each known by its number, to where their slots are served, and follows redirects.
    /// `send` gets a route and the numbers of those that go there, and gives one result for each, in order.
    pub(super) async fn scatter<T, F, Sent>(
        &self,
        count: usize,
        slot_of: impl Fn(usize) -> Slot,
        send: F,
    ) -> Vec<Result<T, Fault>>
    where
        F: Fn(Route<C>, Vec<usize>) -> Sent,
        Sent: Future<Output = Vec<Result<T, Fault>>>,
    {
        match &*self.0 {
            _ if count == 0 => Vec::new(),
            Kind::One(route) => send(route.clone(), (0..count).collect()).await,
            // Boxed, as it is large, and one server's callers would have to make room for it.
            Kind::Cluster(cluster) => Box::pin(cluster.scatter((0..count).map(slot_of).collect(), send)).await,
        }
    }

    /// Asks every primary: one answer each. An error where not every slot has one.
    pub(super) async fn ask_each<F, Sent>(&self, ask: F) -> Result<Vec<Result<(), Fault>>, Fault>
    where
        F: Fn(Route<C>) -> Sent,
        Sent: Future<Output = Result<(), Fault>>,
    {
        match &*self.0 {
            Kind::One(route) => Ok(vec![ask(route.clone()).await]),
            Kind::Cluster(cluster) => cluster.ask_each(ask).await,
        }
    }

    /// The lowest slot of each primary, in order. An error where not every slot has one.
    pub(super) async fn lowest_slots(&self) -> Result<Vec<Slot>, Fault> {
        match &*self.0 {
            Kind::One(_) => Ok(vec![0]),
            Kind::Cluster(cluster) => cluster.lowest_slots().await,
        }
    }

    /// Asks the primary of a slot something that concerns it alone, and that may be asked again when the slot moves.
    pub(super) async fn ask_one<T, F, Sent>(&self, slot: Slot, ask: F) -> Result<T, Fault>
    where
        F: Fn(Route<C>) -> Sent,
        Sent: Future<Output = Result<T, Fault>>,
    {
        match &*self.0 {
            Kind::One(route) => ask(route.clone()).await,
            Kind::Cluster(cluster) => cluster.ask_one(slot, ask).await,
        }
    }
}

impl<C> Clone for Topology<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> Clone for Route<C> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), marks: Arc::clone(&self.marks), entry: self.entry }
    }
}

impl<C> Route<C> {
    /// Adds a command, as this route wants it, and one reply.
    pub(super) fn add(&self, pipeline: &mut Pipeline, command: Cmd) {
        if self.entry == Entry::Imported {
            pipeline.cmd("ASKING").ignore();
        }
        pipeline.add_command(command);
    }
}
