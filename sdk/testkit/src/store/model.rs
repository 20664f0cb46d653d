//! What a store is: lists, searched from end to end. Too slow to be wrong.

use std::cmp::Reverse;

use bytes::Bytes;
use byway_api::{
    Applied, ConnectionRow, InboxRow, Load, OutboxRow, OutboxState, PinRow, RecordRow, RouteRow, Row, SeenRow, UserId,
    Write,
};

use super::random::{Random, random_batch};
use super::sample::{message, peer, user};
use super::{StoreFixture, apply, close, ensure_eq, open, paged, reopen};
use crate::promise::{Outcome, Verdict, ensure};

#[derive(Debug, Default)]
pub(crate) struct Model {
    routes: Vec<RouteRow>,
    records: Vec<RecordRow>,
    outbox: Vec<OutboxRow>,
    inbox: Vec<InboxRow>,
    seen: Vec<SeenRow>,
    meta: Vec<(String, Bytes)>,
    pins: Vec<PinRow>,
    blocked: Vec<UserId>,
    connections: Vec<ConnectionRow>,
}

/// Removes what matches and says whether there was any.
fn remove<T>(rows: &mut Vec<T>, matches: impl Fn(&T) -> bool) -> bool {
    let before = rows.len();
    rows.retain(|row| !matches(row));
    rows.len() < before
}

fn missing_unless(there: bool) -> Applied {
    if there { Applied::Done } else { Applied::Missing }
}

impl Model {
    fn apply(&mut self, write: &Write) -> Applied {
        match write.clone() {
            Write::Append(row) => {
                if self.outbox.iter().any(|r| (r.message, r.to_peer) == (row.message, row.to_peer)) {
                    return Applied::Duplicate;
                }
                self.outbox.push(row);
            }
            Write::Bind { message, rows } => {
                let unbound = self.outbox.iter().position(|r| r.message == message && r.to_peer.is_none());
                let Some(unbound) = unbound.filter(|_| !rows.is_empty()) else { return Applied::Missing };
                let content = self.outbox.remove(unbound).content;
                for row in rows {
                    self.apply(&Write::Append(OutboxRow { content: content.clone(), ..row }));
                }
            }
            Write::Receive { row, seen } => {
                let key = (row.from_peer, row.epoch);
                let marks = self.seen.iter().filter(|s| (s.from_peer, s.epoch) == key);
                let marked = marks.into_iter().any(|s| row.seq < s.floor || s.above.contains(&row.seq));
                if marked || self.inbox.iter().any(|r| (r.from_peer, r.epoch) == key && r.seq == row.seq) {
                    return Applied::Duplicate;
                }
                self.inbox.push(row);
                self.apply(&Write::Seen(seen));
            }
            Write::Progress { message, to_peer, state, retry_count, next_try } => {
                let row = self.outbox.iter_mut().find(|r| (r.message, r.to_peer) == (message, to_peer));
                let Some(row) = row else { return Applied::Missing };
                let content = row.content.take().filter(|_| state == OutboxState::Queued);
                *row = OutboxRow { state, retry_count, next_try, content, ..row.clone() };
            }
            Write::Forget { message, to_peer } => {
                return missing_unless(remove(&mut self.outbox, |r| (r.message, r.to_peer) == (message, to_peer)));
            }
            Write::Mark { from_peer, epoch, seq, state } => {
                let key = (from_peer, epoch, seq);
                let Some(row) = self.inbox.iter_mut().find(|r| (r.from_peer, r.epoch, r.seq) == key) else {
                    return Applied::Missing;
                };
                row.state = state;
            }
            Write::Take { from_peer, epoch, seq } => {
                let key = (from_peer, epoch, seq);
                return missing_unless(remove(&mut self.inbox, |r| (r.from_peer, r.epoch, r.seq) == key));
            }
            Write::Seen(mark) => {
                remove(&mut self.seen, |s| (s.from_peer, s.epoch) == (mark.from_peer, mark.epoch));
                self.seen.push(mark);
            }
            Write::Unsee { from_peer, epoch } => {
                return missing_unless(remove(&mut self.seen, |s| (s.from_peer, s.epoch) == (from_peer, epoch)));
            }
            Write::Route(route) => {
                let same = |r: &RouteRow| r.user == route.user && r.peer == route.peer && r.address == route.address;
                remove(&mut self.routes, same);
                self.routes.push(route);
            }
            Write::DropPeer { peer } => {
                let routes = remove(&mut self.routes, |r| r.peer == peer);
                return missing_unless(remove(&mut self.records, |r| r.peer == peer) || routes);
            }
            Write::Record(record) => {
                if self.records.iter().any(|r| r.peer == record.peer && r.seq >= record.seq) {
                    return Applied::Duplicate;
                }
                remove(&mut self.records, |r| r.peer == record.peer);
                self.records.push(record);
            }
            Write::Meta { key, value, .. } => {
                remove(&mut self.meta, |(k, _)| *k == key);
                self.meta.extend(value.map(|value| (key, value)));
            }
            Write::Pin(pin) => {
                if self.pins.iter().any(|p| p.user == pin.user && p.peer == pin.peer) {
                    return Applied::Duplicate;
                }
                self.pins.push(pin);
            }
            Write::Unpin { user } => return missing_unless(remove(&mut self.pins, |p| p.user == user)),
            Write::Block { user, blocked } => {
                remove(&mut self.blocked, |u| *u == user);
                self.blocked.extend(blocked.then_some(user));
            }
            Write::Connection(row) => {
                remove(&mut self.connections, |c| c.peer == row.peer);
                self.connections.push(row);
            }
            Write::Disconnected { peer } => return missing_unless(remove(&mut self.connections, |c| c.peer == peer)),
            other => panic!("the model does not know {other:?}"),
        }
        Applied::Done
    }

    /// The rows in the order that [`Load`] documents; what it leaves open is ordered by [`settle`].
    fn rows(&self, what: &Load) -> Vec<Row> {
        let of = |wanted: &Option<UserId>, user: &UserId| wanted.as_ref().is_none_or(|wanted| wanted == user);
        let mut rows: Vec<Row> = match what {
            Load::Routes { user } => {
                self.routes.iter().filter(|r| of(user, &r.user)).cloned().map(Row::Route).collect()
            }
            Load::Records { user } => {
                self.records.iter().filter(|r| of(user, &r.user)).cloned().map(Row::Record).collect()
            }
            Load::Outbox => {
                let mut rows = self.outbox.clone();
                rows.sort_by_key(|r| (r.queued_at, r.message, r.to_peer));
                return rows.into_iter().map(|r| Row::Outbox(OutboxRow { content: None, ..r })).collect();
            }
            Load::OutboxContent(id) => {
                self.outbox.iter().filter(|r| r.message == *id).cloned().map(Row::Outbox).collect()
            }
            Load::Inbox => {
                let mut rows = self.inbox.clone();
                rows.sort_by_key(|r| (r.received_at, r.from_peer, r.epoch, r.seq));
                return rows.into_iter().map(|r| Row::Inbox(InboxRow { content: None, ..r })).collect();
            }
            Load::InboxContent { from_peer, epoch, seq } => {
                let key = (*from_peer, *epoch, *seq);
                let found = self.inbox.iter().filter(|r| (r.from_peer, r.epoch, r.seq) == key);
                found.cloned().map(Row::Inbox).collect()
            }
            Load::Seen => self.seen.iter().cloned().map(Row::Seen).collect(),
            Load::Meta { prefix } => {
                let named = self.meta.iter().filter(|(key, _)| key.starts_with(prefix)).cloned();
                named.map(|(key, value)| Row::Meta { key, value }).collect()
            }
            Load::Pins => self.pins.iter().cloned().map(Row::Pin).collect(),
            Load::Blocked => self.blocked.iter().cloned().map(Row::Blocked).collect(),
            Load::Connections => self.connections.iter().cloned().map(Row::Connection).collect(),
            other => panic!("the model does not know {other:?}"),
        };
        settle(&mut rows);
        rows
    }

    /// Every load over the keys that random batches use.
    pub(crate) fn loads() -> Vec<Load> {
        let mut loads = vec![
            Load::Routes { user: None },
            Load::Records { user: None },
            Load::Outbox,
            Load::Inbox,
            Load::Seen,
            Load::Meta { prefix: String::new() },
            Load::Meta { prefix: "a/".into() },
            Load::Pins,
            Load::Blocked,
            Load::Connections,
        ];
        loads
            .extend((0..3).flat_map(|n| [Load::Routes { user: Some(user(n)) }, Load::Records { user: Some(user(n)) }]));
        loads.extend((0..6).map(|n| Load::OutboxContent(message(n))));
        let inbox = |epoch| (0..3).map(move |seq| Load::InboxContent { from_peer: peer(1), epoch, seq });
        loads.extend([0, u64::MAX].into_iter().flat_map(inbox));
        loads
    }
}

/// Orders rows as documented, and rows that the documentation leaves side by side by their key.
fn settle(rows: &mut [Row]) {
    rows.sort_by(|a, b| match (a, b) {
        (Row::Route(a), Row::Route(b)) => {
            let best = b.success_rate.total_cmp(&a.success_rate);
            let key = |r: &RouteRow| (Reverse(r.last_seen), r.user.clone(), r.peer, r.address.clone());
            best.then_with(|| key(a).cmp(&key(b)))
        }
        (Row::Record(a), Row::Record(b)) => a.peer.cmp(&b.peer),
        (Row::Outbox(a), Row::Outbox(b)) => a.to_peer.cmp(&b.to_peer),
        (Row::Inbox(a), Row::Inbox(b)) => a.seq.cmp(&b.seq),
        (Row::Seen(a), Row::Seen(b)) => (a.from_peer, a.epoch).cmp(&(b.from_peer, b.epoch)),
        (Row::Meta { key: a, .. }, Row::Meta { key: b, .. }) => a.cmp(b),
        (Row::Pin(a), Row::Pin(b)) => (&a.user, a.peer).cmp(&(&b.user, b.peer)),
        (Row::Blocked(a), Row::Blocked(b)) => a.cmp(b),
        (Row::Connection(a), Row::Connection(b)) => a.peer.cmp(&b.peer),
        _ => panic!("{a:?} and {b:?} come from one load"),
    });
}

/// True if equal routes apart, the order is as documented.
fn best_first(rows: &[Row]) -> bool {
    rows.is_sorted_by(|a, b| match (a, b) {
        (Row::Route(a), Row::Route(b)) => {
            (b.success_rate, b.last_seen).partial_cmp(&(a.success_rate, a.last_seen)).is_none_or(|o| o.is_le())
        }
        _ => true,
    })
}

/// Random batches, pages and restarts give what lists would give.
pub async fn random_batches_match_the_model(fixture: &dyn StoreFixture) -> Verdict {
    let steps = if super::thorough() { 10_000 } else { 1200 };
    let seed = std::env::var("BYWAY_STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    let mut random = Random::new(seed);
    let mut model = Model::default();
    let mut store = open(fixture).await?;
    for step in 0..steps {
        let here = format!("BYWAY_STORE_SEED={seed}, step {step}");
        let batch = random_batch(&mut random);
        let want: Vec<_> = batch.iter().map(|write| model.apply(write)).collect();
        ensure_eq!(apply(&*store, &batch).await?, want, "{here}: {batch:?}");
        if random.below(60) == 0 {
            store = reopen(fixture, store).await?;
            model.connections.clear();
        }
        if random.below(10) == 0 {
            for what in Model::loads() {
                let page = 1 + usize::from(random.below(5));
                let mut rows = paged(&*store, &what, page).await?;
                ensure!(best_first(&rows), "{here}: {what:?} in another order: {rows:?}");
                if matches!(what, Load::Routes { .. } | Load::OutboxContent(_)) {
                    settle(&mut rows);
                }
                ensure_eq!(rows, model.rows(&what), "{here}: {what:?}");
            }
        }
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}
