//! A cluster: a map of its slots, and connections to each of its primaries.
//!
//! The map is made from CLUSTER SLOTS, and made anew when a node says MOVED, doesn't answer, or says that the cluster
//! is down, or when a tracker sees the cluster change: never by the clock, so that an idle process sends nothing. Whoever
//! is sent elsewhere goes there at once, by the address that the redirect names, and doesn't wait for the new map; the
//! nodes themselves may need a moment until all of them tell the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{Value, cmd};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::Endpoint;
use super::fault::{Entry, Fault, Reach};
use super::kept::{Kept, Live, Make};
use super::primary::Primary;
use super::slots::{self, Address, SLOTS, Served, Slot, Tags};
use super::topology::{Open, Route};
use super::tracking::News;
use super::{MARK_KEY, Options};

/// How often a command is sent at most: once, and again for each redirect.
const ROUNDS_MAX: u32 = 6;
/// Pause before the third round, doubled for each later one: nodes that point at each other need a moment to agree.
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// Least time from one map to the next.
const MAP_PAUSE_MIN: Duration = Duration::from_millis(200);
/// Nodes that are asked for the map at a time; the first one that knows of all slots is believed.
const ASKED_AT_ONCE: usize = 3;
/// Slots of a node of which one must not be on the move for a write to be acknowledged.
const MARKS_MAX: usize = 4;

pub(super) struct Cluster<C> {
    map: Arc<Kept<Arc<Map<C>>>>,
    nodes: Arc<Nodes<C>>,
    tags: Arc<Tags>,
    /// How long to wait for a map.
    patience: Duration,
    _follower: Option<AbortOnDropHandle<()>>,
}

/// The connections to each node that is in use.
struct Nodes<C> {
    open: Box<dyn Fn(&Address) -> C + Send + Sync>,
    by_address: Mutex<HashMap<Address, Arc<Node<C>>>>,
}

struct Node<C> {
    address: Address,
    connections: Arc<C>,
}

struct Map<C> {
    /// In the order of the slots.
    ranges: Vec<(Served, Arc<Place<C>>)>,
    places: Vec<Arc<Place<C>>>,
}

/// A node, and keys of ours in slots that it serves.
struct Place<C> {
    node: Arc<Node<C>>,
    marks: Arc<[String]>,
}

/// A command on its way.
struct Item {
    number: usize,
    slot: Slot,
    /// Where the last node sent it; `None` is where the map says.
    hop: Option<(Address, Entry)>,
}

/// What goes to one node in one round.
struct Parcel<C> {
    node: Arc<Node<C>>,
    route: Route<C>,
    items: Vec<Item>,
}

impl<C: Send + Sync + 'static> Cluster<C> {
    pub(super) fn new(seeds: Vec<Endpoint>, options: &Options, open: Open<C>, news: Option<&News>) -> Self {
        let (template, opened_with) = (seeds[0].clone(), options.clone());
        let open = move |address: &Address| open(&Primary::Known(Arc::new(template.at(address))), &opened_with);
        let nodes = Arc::new(Nodes { open: Box::new(open), by_address: Mutex::default() });
        let tags = Arc::new(Tags::new());
        let (of_surveyor, news) = ((Arc::clone(&nodes), Arc::clone(&tags)), news.cloned());
        let surveyor =
            Surveyor { seeds, nodes: of_surveyor.0, tags: of_surveyor.1, news: news.clone(), drawn: Vec::new() };
        let patience = options.connect_timeout + options.read_timeout.min(options.write_timeout);
        let map = Arc::new(Kept::new(surveyor));
        let follow =
            |news: News| AbortOnDropHandle::new(tokio::spawn(follow(Arc::clone(&map), news.moved.subscribe())));
        let follower = news.map(follow);
        Self { map, nodes, tags, patience, _follower: follower }
    }

    pub(super) async fn lowest_slots(&self) -> Result<Vec<Slot>, Fault> {
        let map = self.whole_map().await?;
        let lowest = |place: &Arc<Place<C>>| map.value.lowest_slot(place);
        let mut slots: Vec<Slot> = map.value.places.iter().filter_map(lowest).collect();
        slots.sort_unstable();
        Ok(slots)
    }

    /// See [`super::topology::Topology::ask_one`].
    pub(super) async fn ask_one<T, F, Sent>(&self, slot: Slot, ask: F) -> Result<T, Fault>
    where
        F: Fn(Route<C>) -> Sent,
        Sent: Future<Output = Result<T, Fault>>,
    {
        let mut map = self.whole_map().await?;
        for _ in 0..ROUNDS_MAX {
            let place = map.value.place(slot).ok_or_else(|| unserved(slot))?;
            match ask(place.route()).await {
                Err(fault) if fault.reach == Reach::Elsewhere => {
                    self.map.report_stale(&map);
                    map = self.within_patience(self.map.fresh()).await?;
                }
                answer => return answer.map_err(|fault| self.blame(&map, place, &fault)),
            }
        }
        Err(Fault::new(Reach::Server, format!("slot {slot} is on the move")))
    }

    /// See [`super::topology::Topology::ask_each`]. Where nothing but this is asked while the consumer pauses, it must
    /// find the new map, too.
    pub(super) async fn ask_each<F, Sent>(&self, ask: F) -> Result<Vec<Result<(), Fault>>, Fault>
    where
        F: Fn(Route<C>) -> Sent,
        Sent: Future<Output = Result<(), Fault>>,
    {
        let map = self.whole_map().await?;
        let places = &map.value.places;
        let answers = join_all(places.iter().map(|place| ask(place.route()))).await;
        let answers = places.iter().zip(answers);
        Ok(answers.map(|(place, answer)| answer.map_err(|fault| self.blame(&map, place, &fault))).collect())
    }

    /// A map in which every slot has a primary.
    async fn whole_map(&self) -> Result<Live<Arc<Map<C>>>, Fault> {
        let map = self.within_patience(self.map.latest()).await?;
        match map.value.unserved() {
            None => Ok(map),
            Some(slot) => {
                self.map.report_stale(&map);
                Err(unserved(slot))
            }
        }
    }

    /// The fault of a node, which is told with its address, and may have made the map stale.
    fn blame(&self, map: &Live<Arc<Map<C>>>, place: &Place<C>, fault: &Fault) -> Fault {
        if fault.is_of_topology() {
            self.map.report_stale(map);
        }
        fault.at(&place.node.address)
    }

    /// See [`super::topology::Topology::scatter`].
    pub(super) async fn scatter<T, F, Sent>(&self, slots: Vec<Slot>, send: F) -> Vec<Result<T, Fault>>
    where
        F: Fn(Route<C>, Vec<usize>) -> Sent,
        Sent: Future<Output = Vec<Result<T, Fault>>>,
    {
        let unsettled = || Err(Fault::new(Reach::Server, "the cluster sends us from node to node"));
        let mut results: Vec<_> = slots.iter().map(|_| unsettled()).collect();
        let mut pending: Vec<Item> =
            slots.into_iter().enumerate().map(|(number, slot)| Item { number, slot, hop: None }).collect();
        for round in 0..ROUNDS_MAX {
            if round > 1 {
                sleep(ROUND_PAUSE * (1 << (round - 2))).await;
            }
            // A redirect that can't be followed as it is leaves the next map to follow.
            let is_lost = round > 0 && pending.iter().any(|item| item.hop.is_none());
            let map = match is_lost {
                true => self.within_patience(self.map.fresh()).await,
                false => self.within_patience(self.map.latest()).await,
            };
            let map = match map {
                Ok(map) => map,
                Err(fault) => {
                    pending.iter().for_each(|item| results[item.number] = Err(fault.clone()));
                    return results;
                }
            };
            let parcels = self.pack(&map, pending, &mut results);
            let sent = parcels.into_iter().map(|parcel| {
                let numbers = parcel.items.iter().map(|item| item.number).collect();
                let sent = send(parcel.route.clone(), numbers);
                async move { (sent.await, parcel) }
            });
            pending = Vec::new();
            for (replies, Parcel { node, items, .. }) in join_all(sent).await {
                for (item, reply) in items.into_iter().zip(replies) {
                    match self.judge(&map, &node.address, reply) {
                        Judged::Settled(reply) => results[item.number] = reply,
                        Judged::Redirected(hop) => pending.push(Item { hop, ..item }),
                    }
                }
            }
            if pending.is_empty() {
                break;
            }
        }
        results
    }

    fn judge<T>(&self, map: &Live<Arc<Map<C>>>, asked: &Address, reply: Result<T, Fault>) -> Judged<T> {
        let Err(fault) = &reply else { return Judged::Settled(reply) };
        if fault.is_of_topology() {
            self.map.report_stale(map);
        }
        match (&fault.redirect, fault.reach) {
            (Some(redirect), _) => {
                let hop = Address::parse(&redirect.to, asked).map(|address| (address, redirect.entry));
                Judged::Redirected(hop)
            }
            (None, Reach::Command) => Judged::Settled(reply),
            (None, _) => Judged::Settled(Err(fault.at(asked))),
        }
    }

    /// One parcel for each node, and each way to enter it. What no node serves gets its result at once.
    fn pack<T>(&self, map: &Live<Arc<Map<C>>>, items: Vec<Item>, results: &mut [Result<T, Fault>]) -> Vec<Parcel<C>> {
        let mut parcels: Vec<Parcel<C>> = Vec::new();
        for item in items {
            let (node, entry) = match (&item.hop, map.value.place(item.slot)) {
                (Some((address, entry)), _) => (self.nodes.at(address), *entry),
                (None, Some(place)) => (Arc::clone(&place.node), Entry::Served),
                (None, None) => {
                    self.map.report_stale(map);
                    results[item.number] = Err(unserved(item.slot));
                    continue;
                }
            };
            let same = |parcel: &&mut Parcel<C>| Arc::ptr_eq(&parcel.node, &node) && parcel.route.entry == entry;
            match parcels.iter_mut().find(same) {
                Some(parcel) => parcel.items.push(item),
                None => {
                    let marks = match (&item.hop, map.value.place(item.slot)) {
                        (None, Some(place)) => Arc::clone(&place.marks),
                        // Where the item itself is taken, so is a record in its slot.
                        _ => [self.tags.key(MARK_KEY, item.slot)].into(),
                    };
                    let route = Route { node: Arc::clone(&node.connections), marks, entry };
                    parcels.push(Parcel { node, route, items: vec![item] });
                }
            }
        }
        parcels
    }

    async fn within_patience<T>(&self, map: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(self.patience, map).await.unwrap_or_else(|_| Err(Fault::slow()))
    }
}

/// What becomes of a command after a round.
enum Judged<T> {
    Settled(Result<T, Fault>),
    Redirected(Option<(Address, Entry)>),
}

fn unserved(slot: Slot) -> Fault {
    Fault::new(Reach::Server, format!("no node of the cluster serves slot {slot}"))
}

impl<C> Nodes<C> {
    fn at(&self, address: &Address) -> Arc<Node<C>> {
        let mut nodes = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Arc::clone(node);
        }
        let node = Node { address: address.clone(), connections: Arc::new((self.open)(address)) };
        let node = Arc::new(node);
        nodes.insert(address.clone(), Arc::clone(&node));
        node
    }

    fn addresses(&self) -> Vec<Address> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Connections to others end as soon as nobody uses them.
    fn retain(&self, keep: impl Fn(&Address) -> bool) {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner).retain(|address, _| keep(address));
    }
}

impl<C> Place<C> {
    fn route(&self) -> Route<C> {
        Route { node: Arc::clone(&self.node.connections), marks: Arc::clone(&self.marks), entry: Entry::Served }
    }
}

impl<C> Map<C> {
    fn place(&self, slot: Slot) -> Option<&Arc<Place<C>>> {
        let behind = self.ranges.partition_point(|(range, _)| range.first <= slot);
        let (range, place) = self.ranges.get(behind.checked_sub(1)?)?;
        (slot <= range.last).then_some(place)
    }

    fn lowest_slot(&self, of: &Arc<Place<C>>) -> Option<Slot> {
        self.ranges.iter().find(|(_, place)| Arc::ptr_eq(place, of)).map(|(range, _)| range.first)
    }

    /// The first slot that no node serves.
    fn unserved(&self) -> Option<Slot> {
        let mut next = 0;
        for (range, _) in &self.ranges {
            if range.first > next {
                return Some(next);
            }
            next = range.last + 1;
        }
        (next < SLOTS).then_some(next)
    }
}

/// Has the map made anew each time that a node sees the cluster in another way.
async fn follow<C: Send + Sync + 'static>(map: Arc<Kept<Arc<Map<C>>>>, mut moved: watch::Receiver<u64>) {
    while moved.changed().await.is_ok() {
        map.report_latest_stale();
    }
}

/// Makes maps.
struct Surveyor<C> {
    seeds: Vec<Endpoint>,
    nodes: Arc<Nodes<C>>,
    tags: Arc<Tags>,
    news: Option<News>,
    /// The last one.
    drawn: Vec<Served>,
}

impl<C: Send + Sync + 'static> Make for Surveyor<C> {
    type Value = Arc<Map<C>>;

    const PAUSE_MIN: Duration = MAP_PAUSE_MIN;

    fn what(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(Endpoint::to_string).collect();
        format!("the cluster of {}", seeds.join(","))
    }

    async fn make(&mut self) -> Result<Arc<Map<C>>, Fault> {
        let mut known = self.nodes.addresses();
        known.extend(self.seeds.iter().map(Endpoint::address).filter(|seed| !known.contains(seed)).collect::<Vec<_>>());
        let template = &self.seeds[0];
        let mut answers = stream::iter(known).map(|at| survey(template.at(&at))).buffer_unordered(ASKED_AT_ONCE);
        let mut best: Result<Vec<Served>, Fault> = Err(Fault::new(Reach::Server, "no node of the cluster answers"));
        while let Some(answer) = answers.next().await {
            let served = |answer: &Result<Vec<Served>, Fault>| {
                answer.as_ref().map_or(-1, |ranges| ranges.iter().map(|range| i32::from(range.count())).sum())
            };
            if served(&answer) > served(&best) || best.is_err() {
                best = answer;
            }
            if served(&best) == i32::from(SLOTS) {
                break;
            }
        }
        let served = best?;
        let map = Arc::new(self.draw(&served));
        // Before anybody asks by this map: what was read by the last one may be out of date.
        if let Some(news) = self.news.as_ref().filter(|_| self.drawn != served) {
            news.changes.everything_changed();
        }
        self.drawn = served;
        Ok(map)
    }
}

impl<C> Surveyor<C> {
    fn draw(&self, served: &[Served]) -> Map<C> {
        let mut of_node: HashMap<Address, Vec<&Served>> = HashMap::new();
        for range in served {
            of_node.entry(range.by.clone()).or_default().push(range);
        }
        let place = |(address, ranges): (Address, Vec<&Served>)| {
            let keys = spread(&ranges).map(|slot| self.tags.key(MARK_KEY, slot)).collect();
            let place = Place { node: self.nodes.at(&address), marks: keys };
            (address, Arc::new(place))
        };
        let places: HashMap<Address, Arc<Place<C>>> = of_node.into_iter().map(place).collect();
        self.nodes.retain(|address| places.contains_key(address));
        let ranges = served.iter().map(|range| (range.clone(), Arc::clone(&places[&range.by]))).collect();
        Map { ranges, places: places.into_values().collect() }
    }
}

/// A few slots from all over these ranges, of which there is one at least.
fn spread(ranges: &[&Served]) -> impl Iterator<Item = Slot> {
    let count: usize = ranges.iter().map(|range| usize::from(range.count())).sum();
    let nth = move |n: usize| ranges.iter().flat_map(|range| range.first..=range.last).nth(n);
    (0..MARKS_MAX.min(count)).filter_map(move |i| nth(count * i / MARKS_MAX.min(count)))
}

/// Asks one node who serves what.
async fn survey(node: Endpoint) -> Result<Vec<Served>, Fault> {
    let mut connection = node.connect(&node.config(node.connect_timeout())).await?;
    let answer: Value = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await.map_err(|error| {
        let fault = Fault::from(&error);
        match fault.reach {
            Reach::Command => Fault::new(Reach::Server, format!("store.mode = \"cluster\", but {node} says: {error}")),
            _ => fault,
        }
    })?;
    let unclear = || Fault::new(Reach::Server, format!("{node} gave an answer that CLUSTER SLOTS doesn't give"));
    slots::parse(&answer, &node.address()).ok_or_else(unclear)
}
