//! The rows, and what each write does to them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use byway_api::{
    Applied, ConnectionRow, InboxRow, Key, Load, MessageId, OutboxRow, OutboxState, PeerId, PinRow, RecordRow,
    RouteRow, Row, SeenRow, SignalAddress, UserId, Write,
};

use crate::order::Order;

/// One ordered map per kind of row.
#[derive(Default)]
pub(crate) struct Tables {
    routes: BTreeMap<UserId, BTreeMap<(PeerId, SignalAddress), RouteRow>>,
    records: BTreeMap<PeerId, RecordRow>,
    outbox: BTreeMap<(MessageId, Option<PeerId>), OutboxRow>,
    inbox: BTreeMap<(PeerId, u64, u64), InboxRow>,
    seen: BTreeMap<(PeerId, u64), SeenRow>,
    meta: BTreeMap<String, Bytes>,
    pins: BTreeMap<(UserId, PeerId), PinRow>,
    blocked: BTreeSet<UserId>,
    connections: BTreeMap<PeerId, ConnectionRow>,
}

fn missing_unless(there: bool) -> Applied {
    if there { Applied::Done } else { Applied::Missing }
}

impl Tables {
    pub(crate) fn forget_connections(&mut self) {
        self.connections.clear();
    }

    /// Never fails: a batch is checked before its first write.
    pub(crate) fn apply(&mut self, write: &Write) -> Applied {
        match write {
            Write::Append(row) => self.append(row),
            Write::Bind { message, rows } => self.bind(*message, rows),
            Write::Receive { row, seen } => self.receive(row, seen),
            Write::Progress { message, to_peer, state, retry_count, next_try } => {
                let Some(row) = self.outbox.get_mut(&(*message, *to_peer)) else { return Applied::Missing };
                row.state = *state;
                row.retry_count = *retry_count;
                row.next_try = *next_try;
                if *state != OutboxState::Queued {
                    row.content = None;
                }
                Applied::Done
            }
            Write::Forget { message, to_peer } => missing_unless(self.outbox.remove(&(*message, *to_peer)).is_some()),
            Write::Mark { from_peer, epoch, seq, state } => {
                let Some(row) = self.inbox.get_mut(&(*from_peer, *epoch, *seq)) else { return Applied::Missing };
                row.state = *state;
                Applied::Done
            }
            Write::Take { from_peer, epoch, seq } => {
                missing_unless(self.inbox.remove(&(*from_peer, *epoch, *seq)).is_some())
            }
            Write::Seen(mark) => {
                self.seen.insert((mark.from_peer, mark.epoch), mark.clone());
                Applied::Done
            }
            Write::Unsee { from_peer, epoch } => missing_unless(self.seen.remove(&(*from_peer, *epoch)).is_some()),
            Write::Route(route) => {
                let routes = self.routes.entry(route.user.clone()).or_default();
                routes.insert((route.peer, route.address.clone()), route.clone());
                Applied::Done
            }
            Write::DropPeer { peer } => self.drop_peer(*peer),
            Write::Record(record) => self.record(record),
            Write::Meta { key, value, .. } => {
                match value {
                    Some(value) => drop(self.meta.insert(key.clone(), value.clone())),
                    None => drop(self.meta.remove(key)),
                }
                Applied::Done
            }
            Write::Pin(pin) => {
                let key = (pin.user.clone(), pin.peer);
                if self.pins.contains_key(&key) {
                    return Applied::Duplicate;
                }
                self.pins.insert(key, pin.clone());
                Applied::Done
            }
            Write::Unpin { user } => {
                let before = self.pins.len();
                self.pins.retain(|(pinned, _), _| pinned != user);
                missing_unless(self.pins.len() < before)
            }
            Write::Block { user, blocked: true } => {
                self.blocked.insert(user.clone());
                Applied::Done
            }
            Write::Block { user, blocked: false } => {
                self.blocked.remove(user);
                Applied::Done
            }
            Write::Connection(row) => {
                self.connections.insert(row.peer, row.clone());
                Applied::Done
            }
            Write::Disconnected { peer } => missing_unless(self.connections.remove(peer).is_some()),
            _ => unreachable!("a kind of write this version of the store does not know: update byway-store-memory"),
        }
    }

    fn append(&mut self, row: &OutboxRow) -> Applied {
        match self.outbox.entry((row.message, row.to_peer)) {
            Entry::Occupied(_) => Applied::Duplicate,
            Entry::Vacant(place) => {
                place.insert(row.clone());
                Applied::Done
            }
        }
    }

    /// A row that is there already stays: it may have been delivered.
    fn bind(&mut self, message: MessageId, rows: &[OutboxRow]) -> Applied {
        if rows.is_empty() {
            return Applied::Missing;
        }
        let Some(unbound) = self.outbox.remove(&(message, None)) else { return Applied::Missing };
        for row in rows {
            let bound = || OutboxRow { message, content: unbound.content.clone(), ..row.clone() };
            self.outbox.entry((message, row.to_peer)).or_insert_with(bound);
        }
        Applied::Done
    }

    fn receive(&mut self, row: &InboxRow, seen: &SeenRow) -> Applied {
        let key = (row.from_peer, row.epoch, row.seq);
        let marked = self.seen.get(&(row.from_peer, row.epoch));
        if marked.is_some_and(|mark| row.seq < mark.floor || mark.above.contains(&row.seq)) {
            return Applied::Duplicate;
        }
        let Entry::Vacant(place) = self.inbox.entry(key) else { return Applied::Duplicate };
        place.insert(row.clone());
        self.seen.insert((seen.from_peer, seen.epoch), seen.clone());
        Applied::Done
    }

    fn drop_peer(&mut self, peer: PeerId) -> Applied {
        let mut dropped = self.records.remove(&peer).is_some();
        self.routes.retain(|_, routes| {
            let before = routes.len();
            routes.retain(|(device, _), _| *device != peer);
            dropped |= routes.len() < before;
            !routes.is_empty()
        });
        missing_unless(dropped)
    }

    fn record(&mut self, record: &RecordRow) -> Applied {
        if self.records.get(&record.peer).is_some_and(|stored| stored.seq >= record.seq) {
            return Applied::Duplicate;
        }
        self.records.insert(record.peer, record.clone());
        Applied::Done
    }

    pub(crate) fn load(&self, what: &Load, after: Option<&Key>, limit: usize) -> Vec<(Key, Row)> {
        match what {
            Load::Routes { user: None } => page(self.routes.values().flat_map(BTreeMap::values), ROUTE, after, limit),
            Load::Routes { user: Some(user) } => {
                page(self.routes.get(user).into_iter().flat_map(BTreeMap::values), ROUTE, after, limit)
            }
            Load::Records { user } => {
                let of_user = |record: &&RecordRow| user.as_ref().is_none_or(|user| record.user == *user);
                page(
                    self.records.values().filter(of_user),
                    (|r| Order::default().peer(&r.peer).key(), |r| Row::Record(r.clone())),
                    after,
                    limit,
                )
            }
            Load::Outbox => page(
                self.outbox.values(),
                (outbox_order, |r| Row::Outbox(OutboxRow { content: None, ..r.clone() })),
                after,
                limit,
            ),
            Load::OutboxContent(message) => {
                let last = Some(PeerId::from_bytes([u8::MAX; 32]));
                let rows = self.outbox.range((*message, None)..=(*message, last)).map(|(_, row)| row);
                page(rows, (outbox_order, |r| Row::Outbox(r.clone())), after, limit)
            }
            Load::Inbox => page(
                self.inbox.values(),
                (inbox_order, |r| Row::Inbox(InboxRow { content: None, ..r.clone() })),
                after,
                limit,
            ),
            Load::InboxContent { from_peer, epoch, seq } => {
                let row = self.inbox.get(&(*from_peer, *epoch, *seq));
                page(row.into_iter(), (inbox_order, |r| Row::Inbox(r.clone())), after, limit)
            }
            Load::Seen => page(
                self.seen.values(),
                (|r| Order::default().peer(&r.from_peer).number(r.epoch).key(), |r| Row::Seen(r.clone())),
                after,
                limit,
            ),
            Load::Meta { prefix } => {
                let named = self.meta.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix.as_str()));
                let rows = named.filter(|(key, _)| after.is_none_or(|after| key.as_bytes() > &*after.0)).take(limit);
                rows.map(|(key, value)| {
                    let row = Row::Meta { key: key.clone(), value: value.clone() };
                    (Order::default().bytes(key.as_bytes()).key(), row)
                })
                .collect()
            }
            Load::Pins => page(
                self.pins.values(),
                (|r| Order::default().user(&r.user).peer(&r.peer).key(), |r| Row::Pin(r.clone())),
                after,
                limit,
            ),
            Load::Blocked => page(
                self.blocked.iter(),
                (|user| Order::default().user(user).key(), |user| Row::Blocked(user.clone())),
                after,
                limit,
            ),
            Load::Connections => page(
                self.connections.values(),
                (|r| Order::default().peer(&r.peer).key(), |r| Row::Connection(r.clone())),
                after,
                limit,
            ),
            _ => unreachable!("a kind of load this version of the store does not know: update byway-store-memory"),
        }
    }
}

/// How a kind of row is ordered, and how it is given out.
type Form<T> = (fn(&T) -> Key, fn(&T) -> Row);

const ROUTE: Form<RouteRow> = (route_order, |r| Row::Route(r.clone()));

fn route_order(r: &RouteRow) -> Key {
    let best = Order::default().rate(r.success_rate).newest_first(r.last_seen);
    best.user(&r.user).peer(&r.peer).text(r.address.as_str()).key()
}

fn outbox_order(r: &OutboxRow) -> Key {
    let order = Order::default().time(r.queued_at).bytes(r.message.as_bytes());
    match &r.to_peer {
        Some(peer) => order.peer(peer).key(),
        None => order.key(),
    }
}

fn inbox_order(r: &InboxRow) -> Key {
    Order::default().time(r.received_at).peer(&r.from_peer).number(r.epoch).number(r.seq).key()
}

/// The first `limit` rows behind `after`. Only those are copied and sorted.
fn page<'a, T: 'a>(
    rows: impl Iterator<Item = &'a T>,
    (order, give): Form<T>,
    after: Option<&Key>,
    limit: usize,
) -> Vec<(Key, Row)> {
    let behind = |key: &Key| after.is_none_or(|after| key.0 > after.0);
    let mut found: Vec<(Key, &T)> = rows.map(|row| (order(row), row)).filter(|(key, _)| behind(key)).collect();
    if found.len() > limit {
        found.select_nth_unstable_by(limit, |a, b| a.0.0.cmp(&b.0.0));
        found.truncate(limit);
    }
    found.sort_unstable_by(|a, b| a.0.0.cmp(&b.0.0));
    found.into_iter().map(|(key, row)| (key, give(row))).collect()
}
