//! A store that forgets at a crash what was not on disk, by the letter of `byway_api::RouteStore`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use byway_api::{
    Applied, Durability, InboxRow, Load, MessageId, OutboxRow, OutboxState, PeerId, PinRow, RouteRow, Row, SeenRow,
    SignalAddress, UserId, Write,
};

type InboxName = (PeerId, u64, u64);

#[derive(Clone, Debug, Default)]
struct Tables {
    outbox: BTreeMap<(MessageId, Option<PeerId>), OutboxRow>,
    inbox: BTreeMap<InboxName, InboxRow>,
    seen: BTreeMap<(PeerId, u64), SeenRow>,
    routes: BTreeMap<(UserId, PeerId, SignalAddress), RouteRow>,
    records: Shelf,
    meta: BTreeMap<String, Bytes>,
    pins: BTreeMap<(UserId, PeerId), PinRow>,
    blocked: BTreeSet<UserId>,
    connected: BTreeSet<PeerId>,
}

/// Numbers of stored records, by the first bytes of the device's key. What is in them the world knows,
/// which has signed them all: a thousand nodes would otherwise hold a thousand copies of each.
#[derive(Clone, Debug, Default)]
struct Shelf(Vec<(u64, u64)>);

impl Shelf {
    fn at(&self, peer: &PeerId) -> (u64, Result<usize, usize>) {
        let key = peer.as_bytes().first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        (key, self.0.binary_search_by_key(&key, |(k, _)| *k))
    }

    fn get(&self, peer: &PeerId) -> Option<u64> {
        self.at(peer).1.ok().map(|i| self.0[i].1)
    }

    fn put(&mut self, peer: &PeerId, seq: u64) {
        match self.at(peer) {
            (_, Ok(i)) => self.0[i].1 = self.0[i].1.max(seq),
            (key, Err(i)) => self.0.insert(i, (key, seq)),
        }
    }

    fn remove(&mut self, peer: &PeerId) -> bool {
        self.at(peer).1.is_ok_and(|i| {
            self.0.remove(i);
            true
        })
    }
}

const fn done_if(there: bool) -> Applied {
    if there { Applied::Done } else { Applied::Missing }
}

impl Tables {
    fn apply(&mut self, write: &Write) -> Applied {
        match write {
            Write::Append(row) => {
                let key = (row.message, row.to_peer);
                if self.outbox.contains_key(&key) {
                    return Applied::Duplicate;
                }
                self.outbox.insert(key, row.clone());
            }
            Write::Bind { message, rows } => {
                if rows.is_empty() {
                    return Applied::Missing;
                }
                let Some(unbound) = self.outbox.remove(&(*message, None)) else { return Applied::Missing };
                for row in rows {
                    let row = OutboxRow { content: unbound.content.clone(), ..row.clone() };
                    self.outbox.entry((row.message, row.to_peer)).or_insert(row);
                }
            }
            Write::Receive { row, seen } => {
                let key = (row.from_peer, row.epoch, row.seq);
                let mark = self.seen.get(&(row.from_peer, row.epoch));
                let marked = mark.is_some_and(|s| row.seq < s.floor || s.above.contains(&row.seq));
                if marked || self.inbox.contains_key(&key) {
                    return Applied::Duplicate;
                }
                self.inbox.insert(key, row.clone());
                self.seen.insert((seen.from_peer, seen.epoch), seen.clone());
            }
            Write::Progress { message, to_peer, state, retry_count, next_try } => {
                let Some(row) = self.outbox.get_mut(&(*message, *to_peer)) else { return Applied::Missing };
                row.state = *state;
                row.retry_count = *retry_count;
                row.next_try = *next_try;
                if *state != OutboxState::Queued {
                    row.content = None;
                }
            }
            Write::Forget { message, to_peer } => return done_if(self.outbox.remove(&(*message, *to_peer)).is_some()),
            Write::Mark { from_peer, epoch, seq, state } => {
                let Some(row) = self.inbox.get_mut(&(*from_peer, *epoch, *seq)) else { return Applied::Missing };
                row.state = *state;
            }
            Write::Take { from_peer, epoch, seq } => {
                return done_if(self.inbox.remove(&(*from_peer, *epoch, *seq)).is_some());
            }
            Write::Seen(mark) => {
                self.seen.insert((mark.from_peer, mark.epoch), mark.clone());
            }
            Write::Unsee { from_peer, epoch } => return done_if(self.seen.remove(&(*from_peer, *epoch)).is_some()),
            Write::Route(row) => {
                self.routes.insert((row.user.clone(), row.peer, row.address.clone()), row.clone());
            }
            Write::DropPeer { peer } => {
                let before = self.routes.len();
                self.routes.retain(|(_, p, _), _| p != peer);
                return done_if(self.records.remove(peer) || self.routes.len() < before);
            }
            Write::Record(row) => {
                if self.records.get(&row.peer).is_some_and(|seq| seq >= row.seq) {
                    return Applied::Duplicate;
                }
                self.records.put(&row.peer, row.seq);
            }
            Write::Meta { key, value: Some(value), .. } => {
                self.meta.insert(key.clone(), value.clone());
            }
            Write::Meta { key, value: None, .. } => {
                self.meta.remove(key);
            }
            Write::Pin(row) => {
                if self.pins.insert((row.user.clone(), row.peer), row.clone()).is_some() {
                    return Applied::Duplicate;
                }
            }
            Write::Unpin { user } => {
                let before = self.pins.len();
                self.pins.retain(|(u, _), _| u != user);
                return done_if(self.pins.len() < before);
            }
            Write::Block { user, blocked: true } => {
                self.blocked.insert(user.clone());
            }
            Write::Block { user, blocked: false } => {
                self.blocked.remove(user);
            }
            Write::Connection(row) => {
                self.connected.insert(row.peer);
            }
            Write::Disconnected { peer } => return done_if(self.connected.remove(peer)),
            other => unreachable!("a write that the simulator does not know: {other:?}"),
        }
        Applied::Done
    }
}

/// The store of one device, across its restarts.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// What `load` sees.
    live: Tables,
    /// What a crash leaves.
    disk: Tables,
    /// Applied to `live` and not on disk, and since when.
    relaxed: Vec<(u64, Young)>,
}

/// A write that is not on disk.
#[derive(Debug)]
enum Young {
    Record(PeerId, u64),
    Other(Box<Write>),
}

impl From<Write> for Young {
    fn from(write: Write) -> Self {
        match write {
            Write::Record(row) => Self::Record(row.peer, row.seq),
            other => Self::Other(Box::new(other)),
        }
    }
}

/// A relaxed write is on disk after this at latest.
const RELAXED_MS: u64 = 1_000;

impl Store {
    /// Applies a batch as a whole.
    pub(super) fn apply(&mut self, now: u64, batch: Vec<Write>) -> Vec<Applied> {
        let durable = batch.iter().any(|w| w.durability() == Durability::Durable);
        let applied = batch.iter().map(|w| self.live.apply(w)).collect();
        self.relaxed.extend(batch.into_iter().map(|w| (now, w.into())));
        if durable {
            self.sync(u64::MAX);
        } else {
            self.sync(now.saturating_sub(RELAXED_MS));
        }
        applied
    }

    fn sync(&mut self, until: u64) {
        let n = self.relaxed.iter().take_while(|(t, _)| *t <= until).count();
        for (_, write) in self.relaxed.drain(..n) {
            match write {
                Young::Record(peer, seq) => self.disk.records.put(&peer, seq),
                Young::Other(write) => {
                    self.disk.apply(&write);
                }
            }
        }
        if self.relaxed.capacity() > 64 && self.relaxed.len() < 16 {
            self.relaxed.shrink_to(16);
        }
    }

    /// The machine stops: what was not on disk is gone.
    pub(super) fn crash(&mut self, now: u64) {
        self.sync(now.saturating_sub(RELAXED_MS));
        self.relaxed.clear();
        self.live = self.disk.clone();
        self.live.connected.clear();
        self.disk.connected.clear();
    }

    /// Rows in the order that [`Load`] documents.
    pub(super) fn load(&self, what: &Load) -> Vec<Row> {
        let t = &self.live;
        let of = |wanted: &Option<UserId>, user: &UserId| wanted.as_ref().is_none_or(|w| w == user);
        match what {
            Load::Routes { user } => {
                let mut rows: Vec<_> = t.routes.values().filter(|r| of(user, &r.user)).collect();
                rows.sort_by(|a, b| b.success_rate.total_cmp(&a.success_rate).then(b.last_seen.cmp(&a.last_seen)));
                rows.into_iter().cloned().map(Row::Route).collect()
            }
            Load::Outbox => {
                let mut rows: Vec<_> = t.outbox.values().collect();
                rows.sort_by_key(|r| (r.queued_at, r.message, r.to_peer));
                rows.into_iter().map(|r| Row::Outbox(OutboxRow { content: None, ..r.clone() })).collect()
            }
            Load::OutboxContent(id) => t
                .outbox
                .range((*id, None)..)
                .take_while(|((m, _), _)| m == id)
                .map(|(_, r)| Row::Outbox(r.clone()))
                .collect(),
            Load::Inbox => {
                let mut rows: Vec<_> = t.inbox.values().collect();
                rows.sort_by_key(|r| (r.received_at, r.from_peer, r.epoch, r.seq));
                rows.into_iter().map(|r| Row::Inbox(InboxRow { content: None, ..r.clone() })).collect()
            }
            Load::InboxContent { from_peer, epoch, seq } => {
                t.inbox.get(&(*from_peer, *epoch, *seq)).cloned().map(Row::Inbox).into_iter().collect()
            }
            Load::Seen => t.seen.values().cloned().map(Row::Seen).collect(),
            Load::Meta { prefix } => t
                .meta
                .iter()
                .filter(|(key, _)| key.starts_with(prefix.as_str()))
                .map(|(key, value)| Row::Meta { key: key.clone(), value: value.clone() })
                .collect(),
            Load::Pins => t.pins.values().cloned().map(Row::Pin).collect(),
            Load::Blocked => t.blocked.iter().cloned().map(Row::Blocked).collect(),
            _ => Vec::new(),
        }
    }

    /// The number of the record that is stored of a device.
    pub(super) fn record(&self, peer: &PeerId) -> Option<u64> {
        self.live.records.get(peer)
    }

    /// Messages that the store holds for a recipient, or that wait for their acknowledgement.
    pub(super) fn rows(&self) -> usize {
        self.live.outbox.len() + self.live.inbox.len()
    }

    /// The longest list of marks of one epoch.
    pub(super) fn longest_mark(&self) -> usize {
        self.live.seen.values().map(|s| s.above.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use byway_api::WallTime;

    use super::*;

    fn meta(key: &str, durability: Durability) -> Write {
        Write::Meta { key: key.into(), value: Some(Bytes::from_static(b"1")), durability }
    }

    fn keys(store: &Store) -> Vec<String> {
        let rows = store.load(&Load::Meta { prefix: String::new() });
        rows.into_iter().map(|r| if let Row::Meta { key, .. } = r { key } else { unreachable!() }).collect()
    }

    #[test]
    fn a_crash_takes_what_was_relaxed_and_young() {
        let mut store = Store::default();
        store.apply(0, vec![meta("old", Durability::Relaxed)]);
        store.apply(1_500, vec![meta("young", Durability::Relaxed)]);
        store.crash(1_600);
        assert_eq!(keys(&store), ["old"]);

        store.apply(2_000, vec![meta("carried", Durability::Relaxed)]);
        store.apply(2_001, vec![meta("durable", Durability::Durable)]);
        store.apply(2_002, vec![meta("young", Durability::Relaxed)]);
        store.crash(2_003);
        assert_eq!(keys(&store), ["carried", "durable", "old"]);
    }

    #[test]
    fn a_message_is_received_once() {
        let mut store = Store::default();
        let row = InboxRow {
            from_peer: PeerId::from_bytes([1; 32]),
            epoch: 1,
            seq: 0,
            message: MessageId::from_bytes([1; 16]),
            from_user: UserId::new("alice").unwrap(),
            content: Some(Bytes::from_static(b"hi")),
            size: 2,
            reply_to: None,
            sent_at: WallTime::default(),
            received_at: WallTime::default(),
            expires_at: WallTime::default(),
            late: false,
            state: byway_api::InboxState::New,
        };
        let seen =
            SeenRow { from_peer: row.from_peer, epoch: 1, floor: 1, above: vec![], used_at: WallTime::default() };
        let write = Write::Receive { row, seen };
        assert_eq!(store.apply(0, vec![write.clone()]), [Applied::Done]);
        store.crash(1);
        assert_eq!(store.apply(2, vec![write]), [Applied::Duplicate]);
    }
}
