//! The connections that are open: which of them ask for nothing, and how many each client has.
//!
//! A client that opens connections and asks for nothing must not keep others out. When all places
//! are taken, the connection that has been idle for longest gives way to a newcomer. When a client
//! has as many as it may have, its own longest idle one does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use drystone_store::lock::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::network::{self, Network};

pub struct Seats {
    /// The connections that one client may have.
    per_client: usize,
    /// Addresses that many clients share.
    proxies: Vec<Network>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The next turn. They count up, so that the least of them is the oldest.
    next: u64,
    /// The connections that ask for nothing, by the turn in which they began to.
    idle: BTreeMap<u64, Arc<Occupant>>,
    clients: HashMap<IpAddr, Client>,
}

/// A client's connections.
#[derive(Default)]
struct Client {
    len: usize,
    /// The turns of its idle ones.
    idle: BTreeSet<u64>,
}

struct Occupant {
    /// Absent for a proxy, whose connections are not counted.
    client: Option<IpAddr>,
    place: Mutex<Place>,
    gives_way: Notify,
}

/// The state of an occupant. It changes while the state of all is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Answers this number of requests.
    Busy(usize),
    Idle(u64),
    /// Was told to end.
    GivesWay,
}

/// The seat of a connection; given back when it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    occupant: Arc<Occupant>,
}

/// The connection is not idle until this is dropped.
pub struct Work {
    seats: Arc<Seats>,
    occupant: Arc<Occupant>,
}

impl Seats {
    pub fn new(per_client: usize, proxies: Vec<Network>) -> Seats {
        Seats {
            per_client,
            proxies,
            state: Mutex::default(),
        }
    }

    /// Seats a newcomer, which is busy until the given work ends. `None` if its client has as many
    /// connections as it may have, and all of them are busy.
    pub fn take(self: &Arc<Seats>, address: IpAddr) -> Option<(Seat, Work)> {
        let is_proxy = self.proxies.iter().any(|proxy| proxy.contains(address));
        let client = (!is_proxy).then(|| network::client(address));
        let mut state = self.lock();
        if let Some(client) = client {
            let known = state.clients.get(&client);
            if known.is_some_and(|known| known.len >= self.per_client) {
                let oldest = known.and_then(|known| known.idle.first().copied())?;
                state.end(oldest);
            }
            state.clients.entry(client).or_default().len += 1;
        }
        let occupant = Arc::new(Occupant {
            client,
            place: Mutex::new(Place::Busy(1)),
            gives_way: Notify::new(),
        });
        let seat = Seat {
            seats: self.clone(),
            occupant: occupant.clone(),
        };
        let work = Work {
            seats: self.clone(),
            occupant,
        };
        Some((seat, work))
    }

    /// Tells the connection that has been idle for longest to end. False if none is idle.
    pub fn end_oldest(&self) -> bool {
        let mut state = self.lock();
        let Some(oldest) = state.idle.keys().next().copied() else {
            return false;
        };
        state.end(oldest);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn end(&mut self, turn: u64) {
        if let Some(occupant) = self.idle.get(&turn).cloned() {
            self.leave(&occupant);
            occupant.set(Place::GivesWay);
            occupant.gives_way.notify_one();
        }
    }

    fn rest(&mut self, occupant: &Arc<Occupant>) {
        self.next += 1;
        occupant.set(Place::Idle(self.next));
        self.idle.insert(self.next, occupant.clone());
        if let Some(client) = occupant
            .client
            .and_then(|client| self.clients.get_mut(&client))
        {
            client.idle.insert(self.next);
        }
    }

    fn wake(&mut self, occupant: &Occupant, turn: u64) {
        self.idle.remove(&turn);
        if let Some(client) = occupant
            .client
            .and_then(|client| self.clients.get_mut(&client))
        {
            client.idle.remove(&turn);
        }
    }

    /// The occupant is counted no more.
    fn leave(&mut self, occupant: &Occupant) {
        match occupant.place() {
            Place::Idle(turn) => self.wake(occupant, turn),
            Place::Busy(_) => {}
            Place::GivesWay => return,
        }
        let Some(address) = occupant.client else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&address) {
            client.len -= 1;
            if client.len == 0 {
                self.clients.remove(&address);
            }
        }
    }
}

impl Occupant {
    fn place(&self) -> Place {
        *self.place.lock()
    }

    fn set(&self, place: Place) {
        *self.place.lock() = place;
    }
}

impl Seat {
    /// A request has come.
    pub fn work(&self) -> Work {
        let mut state = self.seats.lock();
        let occupant = &self.occupant;
        match occupant.place() {
            Place::Idle(turn) => {
                state.wake(occupant, turn);
                occupant.set(Place::Busy(1));
            }
            Place::Busy(requests) => occupant.set(Place::Busy(requests + 1)),
            Place::GivesWay => {}
        }
        Work {
            seats: self.seats.clone(),
            occupant: occupant.clone(),
        }
    }

    /// Ends when the connection has to give way. It may finish what it answers.
    pub async fn given_way(&self) {
        self.occupant.gives_way.notified().await;
    }

    pub fn gives_way(&self) -> bool {
        self.occupant.place() == Place::GivesWay
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.seats.lock();
        state.leave(&self.occupant);
        // Work that outlives its connection changes nothing.
        self.occupant.set(Place::GivesWay);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.seats.lock();
        match self.occupant.place() {
            Place::Busy(0 | 1) => state.rest(&self.occupant),
            Place::Busy(requests) => self.occupant.set(Place::Busy(requests - 1)),
            Place::Idle(_) | Place::GivesWay => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::{Seat, Seats};

    fn seats(per_client: usize, proxies: &[&str]) -> Arc<Seats> {
        let proxies = proxies.iter().map(|proxy| proxy.parse().unwrap());
        Arc::new(Seats::new(per_client, proxies.collect()))
    }

    fn idle(seats: &Arc<Seats>, address: &str) -> Option<Seat> {
        let address: IpAddr = address.parse().unwrap();
        seats.take(address).map(|(seat, _)| seat)
    }

    #[test]
    fn a_60_the_connection_that_is_idle_for_longest_gives_way() {
        let seats = seats(10, &[]);
        assert!(!seats.end_oldest());
        let [first, second, third] = [(); 3].map(|()| idle(&seats, "10.0.0.1").unwrap());
        let work = first.work();
        drop(second.work());
        // The first is busy, the second asked after the third came.
        assert!(seats.end_oldest());
        assert!(third.gives_way() && !second.gives_way() && !first.gives_way());
        third.given_way().now_or_never().unwrap();
        assert!(seats.end_oldest() && second.gives_way());
        assert!(!seats.end_oldest(), "a busy one stays");
        drop(work);
        assert!(seats.end_oldest() && first.gives_way());
        drop((first, second, third));
        let state = seats.lock();
        assert!(state.idle.is_empty() && state.clients.is_empty());
    }

    #[test]
    fn a_60_a_client_has_its_share_and_a_proxy_any_number() {
        let seats = seats(2, &["10.0.0.0/8"]);
        let [first, second] = [(); 2].map(|()| idle(&seats, "192.0.2.1").unwrap());
        let (first_works, second_works) = (first.work(), second.work());
        assert!(idle(&seats, "192.0.2.1").is_none());
        assert!(idle(&seats, "192.0.2.2").is_some());
        drop(first_works);
        let third = idle(&seats, "192.0.2.1").unwrap();
        assert!(first.gives_way() && !second.gives_way() && !third.gives_way());
        drop((second_works, second, first));
        idle(&seats, "192.0.2.1").unwrap();
        let proxied: Vec<_> = (0..9).map(|_| idle(&seats, "10.1.2.3")).collect();
        assert!(proxied.iter().flatten().count() == 9);
        drop((third, proxied));
        let state = seats.lock();
        assert!(state.idle.is_empty() && state.clients.is_empty());
    }

    #[test]
    fn work_that_outlives_its_connection_leaves_nothing() {
        let seats = seats(2, &[]);
        let seat = idle(&seats, "192.0.2.1").unwrap();
        let (one, other) = (seat.work(), seat.work());
        drop(one);
        assert!(!seats.end_oldest(), "another request is answered still");
        drop(seat);
        drop(other);
        let state = seats.lock();
        assert!(state.idle.is_empty() && state.clients.is_empty());
    }
}
