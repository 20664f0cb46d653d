//! Our state towards one peer, and which of two connections to it lives.
//!
//! The seed's machine, as one table. A link exists per known device; while a user has none, one link
//! in the user's name runs the same table.

use std::collections::BTreeMap;

use byway_api::{Instance, PathKind, PeerId, UserId};

use crate::io::{Credit, Up};
use crate::machine::{ConnId, Tick};

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum LinkState {
    /// Nothing is wanted of it.
    #[default]
    Disconnected,
    /// The ladder runs.
    Discovering,
    /// Signals are on their way.
    Signaling,
    /// The peer has answered; the channel is being opened.
    Connecting,
    /// A connection is up.
    Connected,
    /// An attempt has failed; the next state follows at once.
    Failed,
    /// Messages go through a neighbour.
    RelayMode,
    /// Messages wait in the outbox.
    StoreForward,
}

impl LinkState {
    /// Whether the machine may go from `self` to `to`. Going back from `Connecting` after a failed
    /// approach of the peer is the one arrow that depends on history; see [`Links`].
    pub const fn allows(self, to: Self) -> bool {
        use LinkState::{Connected, Connecting, Disconnected, Discovering, Failed, RelayMode, Signaling, StoreForward};
        matches!(
            (self, to),
            (Disconnected, Discovering)
                | (Discovering, Signaling | Connecting | Failed)
                | (Signaling, Connecting | Failed)
                | (Connecting, Connected | Failed)
                | (Failed, RelayMode | StoreForward)
                | (RelayMode, StoreForward | Discovering)
                | (StoreForward, RelayMode | Discovering)
                | (Disconnected | RelayMode | StoreForward, Connecting)
                | (Discovering | Signaling | Connecting | Connected | Failed | RelayMode | StoreForward, Disconnected)
        )
    }
}

/// Whom a link is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKey {
    /// A known device.
    Device(PeerId),
    /// A user without a known device.
    User(UserId),
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    state: LinkState,
    /// Where the link was when the peer began to dial us.
    approached_from: Option<LinkState>,
}

/// All links that are not simply disconnected.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<LinkKey, Link>);

impl Links {
    /// State of a link.
    pub fn get(&self, key: &LinkKey) -> LinkState {
        self.0.get(key).map_or(LinkState::Disconnected, |l| l.state)
    }

    /// Goes to `to` if the table has that arrow. Returns whether it did.
    pub fn go(&mut self, key: &LinkKey, to: LinkState) -> bool {
        let from = self.get(key);
        if from == to || !from.allows(to) {
            return from == to;
        }
        if to == LinkState::Disconnected {
            self.0.remove(key);
        } else {
            let link = self.0.entry(key.clone()).or_default();
            link.state = to;
            link.approached_from = None;
        }
        true
    }

    /// The link begins to look for its peer, from wherever that is possible.
    pub fn seek(&mut self, key: &LinkKey) {
        self.go(key, LinkState::Discovering);
    }

    /// The attempt failed: over `Failed` to the mode that the seed's machine names, and on to
    /// `StoreForward` if there is no relay.
    pub fn fail(&mut self, key: &LinkKey, relay: bool) {
        let was_connecting = self.get(key) == LinkState::Connecting;
        if !self.go(key, LinkState::Failed) {
            return;
        }
        if was_connecting {
            self.go(key, LinkState::StoreForward);
            if relay {
                self.go(key, LinkState::RelayMode);
            }
        } else {
            self.go(key, LinkState::RelayMode);
            if !relay {
                self.go(key, LinkState::StoreForward);
            }
        }
    }

    /// The peer dials us.
    pub fn approached(&mut self, key: &LinkKey) {
        let from = self.get(key);
        if from != LinkState::Connecting && self.go(key, LinkState::Connecting) {
            let link = self.0.entry(key.clone()).or_default();
            link.approached_from = Some(from);
        }
    }

    /// The peer's attempt came to nothing: back to where the link was.
    pub fn withdrawn(&mut self, key: &LinkKey) {
        let Some(link) = self.0.get_mut(key) else { return };
        let Some(back) = link.approached_from.take() else { return };
        if back == LinkState::Disconnected {
            self.0.remove(key);
        } else {
            link.state = back;
        }
    }

    /// A connection is up, however it came about.
    pub fn connected(&mut self, key: &LinkKey) {
        if self.get(key) != LinkState::Connected {
            if self.get(key) == LinkState::Failed {
                self.go(key, LinkState::StoreForward);
            }
            self.go(key, LinkState::Connecting);
            self.go(key, LinkState::Connected);
        }
    }

    /// The first device of a user becomes known: it takes over the link in the user's name.
    pub fn adopt(&mut self, user: &UserId, device: PeerId) {
        if let Some(link) = self.0.remove(&LinkKey::User(user.clone())) {
            self.0.entry(LinkKey::Device(device)).or_insert(link);
        }
    }

    /// All links that are on their way or up.
    pub fn iter(&self) -> impl Iterator<Item = (&LinkKey, LinkState)> {
        self.0.iter().map(|(key, link)| (key, link.state))
    }

    /// How many links are in a state.
    pub fn count(&self, state: LinkState) -> usize {
        self.0.values().filter(|l| l.state == state).count()
    }
}

/// One live connection.
#[derive(Clone, Debug)]
pub struct Conn {
    /// Its name.
    pub id: ConnId,
    /// The device at the far end.
    pub peer: PeerId,
    /// Its user.
    pub user: UserId,
    /// Its process start.
    pub instance: Instance,
    /// Name of its transport.
    pub transport: &'static str,
    /// Where it runs.
    pub path: String,
    /// How it runs.
    pub kind: PathKind,
    /// Free slots of its queue.
    pub credit: Credit,
    /// Since when.
    pub since: Tick,
    /// Data frames that it was given.
    pub data_given: u64,
    /// Data frames that it has written.
    pub data_written: u64,
    rank: usize,
    we_dialed: bool,
}

impl Conn {
    /// A connection that has just passed Hello.
    pub fn new(up: &Up, now: Tick) -> Self {
        Self {
            id: up.conn,
            peer: up.hello.peer,
            user: up.hello.member.user.clone(),
            instance: up.hello.instance,
            transport: up.transport,
            path: up.path.clone(),
            kind: up.kind,
            credit: up.credit,
            since: now,
            data_given: 0,
            data_written: 0,
            rank: up.rank,
            we_dialed: up.dialed.is_some(),
        }
    }

    /// Smaller is better: direct before TURN, then the order of transports, then the one we dialled.
    fn preference(&self) -> (bool, usize, bool, ConnId) {
        (self.kind == PathKind::Turn, self.rank, !self.we_dialed, self.id)
    }
}

/// What to do about a second connection to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arbitration {
    /// It is the only one.
    Only,
    /// The peer has restarted: these older connections close `SUPERSEDED` at once.
    Restarted(Vec<ConnId>),
    /// We decide (our PeerId is smaller): ping `winner`, and close `losers` when its Pong came.
    Decide {
        /// Lives.
        winner: ConnId,
        /// Go.
        losers: Vec<ConnId>,
    },
    /// The peer decides; both are read, the older is written.
    PeerDecides,
}

/// The two-connections rule (`sdk/docs/protocol.md`, section 2).
///
/// `conns` are all connections to one peer, oldest first, with the newest last.
pub fn arbitrate(me: &PeerId, conns: &[&Conn]) -> Arbitration {
    let Some((newest, older)) = conns.split_last() else { return Arbitration::Only };
    if older.is_empty() {
        return Arbitration::Only;
    }
    let stale: Vec<_> = older.iter().filter(|c| c.instance != newest.instance).map(|c| c.id).collect();
    if !stale.is_empty() {
        return Arbitration::Restarted(stale);
    }
    if *me > newest.peer {
        return Arbitration::PeerDecides;
    }
    let Some(winner) = conns.iter().min_by_key(|c| c.preference()).map(|c| c.id) else { return Arbitration::Only };
    let losers = conns.iter().map(|c| c.id).filter(|id| *id != winner).collect();
    Arbitration::Decide { winner, losers }
}

#[cfg(test)]
mod tests {
    use LinkState::*;

    use super::*;

    const ALL: [LinkState; 8] =
        [Disconnected, Discovering, Signaling, Connecting, Connected, Failed, RelayMode, StoreForward];

    fn key() -> LinkKey {
        LinkKey::Device(PeerId::from_bytes([1; 32]))
    }

    #[test]
    fn the_seeds_arrows_and_no_others() {
        let drawn = [
            (Disconnected, Discovering),
            (Discovering, Signaling),
            (Discovering, Connecting),
            (Signaling, Connecting),
            (Connecting, Connected),
            (Discovering, Failed),
            (Signaling, Failed),
            (Connecting, Failed),
            (Failed, RelayMode),
            (Failed, StoreForward),
            (RelayMode, StoreForward),
            (StoreForward, RelayMode),
            (RelayMode, Discovering),
            (StoreForward, Discovering),
            (Disconnected, Connecting),
            (RelayMode, Connecting),
            (StoreForward, Connecting),
        ];
        for from in ALL {
            for to in ALL {
                let want = drawn.contains(&(from, to)) || (to == Disconnected && from != Disconnected);
                assert_eq!(from.allows(to), want, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn failing_follows_the_drawing() {
        let mut links = Links::default();
        links.seek(&key());
        links.fail(&key(), true);
        assert_eq!(links.get(&key()), RelayMode);
        links.seek(&key());
        links.go(&key(), Signaling);
        links.fail(&key(), false);
        assert_eq!(links.get(&key()), StoreForward);
        links.seek(&key());
        links.go(&key(), Connecting);
        links.fail(&key(), false);
        assert_eq!(links.get(&key()), StoreForward);
    }

    #[test]
    fn a_failed_approach_leads_back() {
        let mut links = Links::default();
        links.seek(&key());
        links.fail(&key(), false);
        links.approached(&key());
        assert_eq!(links.get(&key()), Connecting);
        links.withdrawn(&key());
        assert_eq!(links.get(&key()), StoreForward);
    }

    #[test]
    fn an_illegal_arrow_changes_nothing() {
        let mut links = Links::default();
        assert!(!links.go(&key(), Connected));
        assert_eq!(links.get(&key()), Disconnected);
    }

    #[test]
    fn a_users_link_becomes_the_first_devices() {
        let mut links = Links::default();
        let user = UserId::new("bob").unwrap();
        links.seek(&LinkKey::User(user.clone()));
        links.adopt(&user, PeerId::from_bytes([1; 32]));
        assert_eq!(links.get(&key()), Discovering);
        assert_eq!(links.get(&LinkKey::User(user)), Disconnected);
    }

    fn conn(id: u64, peer: u8, instance: u8, rank: usize, we_dialed: bool) -> Conn {
        Conn {
            id: ConnId(id),
            peer: PeerId::from_bytes([peer; 32]),
            user: UserId::new("bob").unwrap(),
            instance: Instance::from_bytes([instance; 16]),
            transport: "mem",
            path: String::new(),
            kind: PathKind::Direct,
            credit: Credit::default(),
            since: Tick(0),
            data_given: 0,
            data_written: 0,
            rank,
            we_dialed,
        }
    }

    #[test]
    fn a_restarted_peer_does_not_lose_to_its_own_corpse() {
        let me = PeerId::from_bytes([9; 32]);
        let (old, new) = (conn(1, 5, 1, 0, true), conn(2, 5, 2, 3, false));
        assert_eq!(arbitrate(&me, &[&old, &new]), Arbitration::Restarted(vec![ConnId(1)]));
    }

    #[test]
    fn the_smaller_id_decides_and_both_agree() {
        let (small, large) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([9; 32]));
        // seen by the smaller: connection 1 over the worse transport, 2 over the better one
        let (a, b) = (conn(1, 9, 1, 1, true), conn(2, 9, 1, 0, false));
        let want = Arbitration::Decide { winner: ConnId(2), losers: vec![ConnId(1)] };
        assert_eq!(arbitrate(&small, &[&a, &b]), want);
        let (a, b) = (conn(1, 1, 1, 1, false), conn(2, 1, 1, 0, true));
        assert_eq!(arbitrate(&large, &[&a, &b]), Arbitration::PeerDecides);
    }
}
