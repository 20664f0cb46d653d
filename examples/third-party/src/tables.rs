//! The rows of a store in one ordered map, and what each write does to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use byway_api::{
    Applied, InboxRow, Key, Load, MessageId, OutboxRow, OutboxState, PeerId, Row, SeenRow, WallTime, Write,
};

/// Rows by kind and key. A clone shares the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables(BTreeMap<Vec<u8>, Arc<Row>>);

macro_rules! bytes {
    ($($part:expr),+) => { [$(AsRef::<[u8]>::as_ref(&$part)),+].concat() };
}

fn outbox(message: &MessageId, to: Option<&PeerId>) -> Vec<u8> {
    bytes!(b"O", message.as_bytes(), to.map_or(&[][..], |peer| &peer.as_bytes()[..]))
}

fn number(kind: &[u8], peer: &PeerId, epoch: u64) -> Vec<u8> {
    bytes!(kind, peer.as_bytes(), epoch.to_be_bytes())
}

fn inbox(peer: &PeerId, epoch: u64, seq: u64) -> Vec<u8> {
    bytes!(number(b"I", peer, epoch), seq.to_be_bytes())
}

/// No user has a zero byte in it.
fn of_user(kind: &[u8], user: &str) -> Vec<u8> {
    bytes!(kind, user, b"\0")
}

fn key(row: &Row) -> Vec<u8> {
    match row {
        Row::Route(row) => bytes!(of_user(b"R", row.user.as_str()), row.peer.as_bytes(), row.address.as_str()),
        Row::Record(row) => bytes!(b"C", row.peer.as_bytes()),
        Row::Outbox(row) => outbox(&row.message, row.to_peer.as_ref()),
        Row::Inbox(row) => inbox(&row.from_peer, row.epoch, row.seq),
        Row::Seen(row) => number(b"S", &row.from_peer, row.epoch),
        Row::Meta { key, .. } => bytes!(b"M", key),
        Row::Pin(row) => bytes!(of_user(b"P", row.user.as_str()), row.peer.as_bytes()),
        Row::Blocked(user) => of_user(b"B", user.as_str()),
        Row::Connection(row) => bytes!(b"K", row.peer.as_bytes()),
        _ => Vec::new(),
    }
}

fn rising(time: WallTime) -> [u8; 8] {
    (time.as_millis().cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// Bytes that sort as the rows are to come; the key behind them tells rows apart.
fn order(row: &Row, key: &[u8]) -> Vec<u8> {
    match row {
        Row::Route(row) => {
            let rate = !row.success_rate.max(0.0).to_bits();
            bytes!(rate.to_be_bytes(), rising(row.last_seen).map(|byte| !byte), key)
        }
        Row::Outbox(row) => bytes!(rising(row.queued_at), key),
        Row::Inbox(row) => bytes!(rising(row.received_at), key),
        _ => key.to_vec(),
    }
}

impl Tables {
    pub(crate) fn insert(&mut self, row: Row) {
        self.0.insert(key(&row), Arc::new(row));
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.values().map(|row| &**row)
    }

    fn has(&self, row: &Row) -> bool {
        self.0.contains_key(&key(row))
    }

    fn remove(&mut self, key: &[u8]) -> Applied {
        self.0.remove(key).map_or(Applied::Missing, |_| Applied::Done)
    }

    /// Removes what begins so and is wanted.
    fn sweep(&mut self, prefix: &[u8], unwanted: impl Fn(&Row) -> bool) -> Applied {
        let before = self.0.len();
        self.0.retain(|key, row| !(key.starts_with(prefix) && unwanted(row)));
        if self.0.len() < before { Applied::Done } else { Applied::Missing }
    }

    /// A new row, unless it is there.
    fn add(&mut self, row: Row) -> Applied {
        if self.has(&row) {
            return Applied::Duplicate;
        }
        self.put(row)
    }

    fn put(&mut self, row: Row) -> Applied {
        self.insert(row);
        Applied::Done
    }

    fn outbox(&self, key: &[u8]) -> Option<OutboxRow> {
        if let Row::Outbox(row) = &**self.0.get(key)? { Some(row.clone()) } else { None }
    }

    fn inbox(&self, key: &[u8]) -> Option<InboxRow> {
        if let Row::Inbox(row) = &**self.0.get(key)? { Some(row.clone()) } else { None }
    }

    fn marked(&self, row: &InboxRow) -> bool {
        match self.0.get(&number(b"S", &row.from_peer, row.epoch)).map(|row| &**row) {
            Some(Row::Seen(SeenRow { floor, above, .. })) => row.seq < *floor || above.contains(&row.seq),
            _ => false,
        }
    }

    /// Whether [`apply`](Self::apply) can do it; a newer version may have others.
    pub(crate) fn knows(write: &Write) -> bool {
        use Write::{
            Append, Bind, Block, Connection, Disconnected, DropPeer, Forget, Mark, Meta, Pin, Progress, Receive,
            Record, Route, Seen, Take, Unpin, Unsee,
        };
        matches!(
            write,
            Append(_)
                | Bind { .. }
                | Receive { .. }
                | Progress { .. }
                | Forget { .. }
                | Mark { .. }
                | Take { .. }
                | Seen(_)
                | Unsee { .. }
                | Route(_)
                | DropPeer { .. }
                | Record(_)
                | Meta { .. }
                | Pin(_)
                | Unpin { .. }
                | Block { .. }
                | Connection(_)
                | Disconnected { .. }
        )
    }

    pub(crate) fn apply(&mut self, write: &Write) -> Applied {
        match write {
            Write::Append(row) => self.add(Row::Outbox(row.clone())),
            Write::Bind { message, rows } => {
                let unbound = outbox(message, None);
                let Some(content) = self.outbox(&unbound).filter(|_| !rows.is_empty()).map(|row| row.content) else {
                    return Applied::Missing;
                };
                self.remove(&unbound);
                for row in rows {
                    self.add(Row::Outbox(OutboxRow { content: content.clone(), ..row.clone() }));
                }
                Applied::Done
            }
            Write::Receive { row, seen } => {
                if self.marked(row) || self.add(Row::Inbox(row.clone())) == Applied::Duplicate {
                    return Applied::Duplicate;
                }
                self.put(Row::Seen(seen.clone()))
            }
            Write::Progress { message, to_peer, state, retry_count, next_try } => {
                let Some(mut row) = self.outbox(&outbox(message, to_peer.as_ref())) else {
                    return Applied::Missing;
                };
                (row.state, row.retry_count, row.next_try) = (*state, *retry_count, *next_try);
                row.content = row.content.filter(|_| *state == OutboxState::Queued);
                self.put(Row::Outbox(row))
            }
            Write::Forget { message, to_peer } => self.remove(&outbox(message, to_peer.as_ref())),
            Write::Mark { from_peer, epoch, seq, state } => match self.inbox(&inbox(from_peer, *epoch, *seq)) {
                Some(row) => self.put(Row::Inbox(InboxRow { state: *state, ..row })),
                None => Applied::Missing,
            },
            Write::Take { from_peer, epoch, seq } => self.remove(&inbox(from_peer, *epoch, *seq)),
            Write::Seen(row) => self.put(Row::Seen(row.clone())),
            Write::Unsee { from_peer, epoch } => self.remove(&number(b"S", from_peer, *epoch)),
            Write::Route(row) => self.put(Row::Route(row.clone())),
            Write::DropPeer { peer } => {
                let routes = self.sweep(b"R", |row| matches!(row, Row::Route(row) if row.peer == *peer));
                let record = self.remove(&bytes!(b"C", peer.as_bytes()));
                if routes == Applied::Done { routes } else { record }
            }
            Write::Record(new) => match self.0.get(&bytes!(b"C", new.peer.as_bytes())).map(|row| &**row) {
                Some(Row::Record(old)) if old.seq >= new.seq => Applied::Duplicate,
                _ => self.put(Row::Record(new.clone())),
            },
            Write::Meta { key, value: Some(value), .. } => {
                self.put(Row::Meta { key: key.clone(), value: value.clone() })
            }
            Write::Meta { key, value: None, .. } => {
                self.remove(&bytes!(b"M", key));
                Applied::Done
            }
            Write::Pin(row) => self.add(Row::Pin(row.clone())),
            Write::Unpin { user } => self.sweep(&of_user(b"P", user.as_str()), |_| true),
            Write::Block { user, blocked: true } => self.put(Row::Blocked(user.clone())),
            Write::Block { user, blocked: false } => {
                self.remove(&of_user(b"B", user.as_str()));
                Applied::Done
            }
            Write::Connection(row) => self.put(Row::Connection(row.clone())),
            Write::Disconnected { peer } => self.remove(&bytes!(b"K", peer.as_bytes())),
            // refused before
            _ => Applied::Missing,
        }
    }

    /// `None` for what a newer version reads.
    pub(crate) fn load(&self, what: &Load, after: Option<&Key>, limit: usize) -> Option<Vec<(Key, Row)>> {
        let prefix = match what {
            Load::Routes { user } => user.as_ref().map_or(b"R".to_vec(), |user| of_user(b"R", user.as_str())),
            Load::Records { .. } => b"C".to_vec(),
            Load::Outbox => b"O".to_vec(),
            Load::OutboxContent(message) => outbox(message, None),
            Load::Inbox => b"I".to_vec(),
            Load::InboxContent { from_peer, epoch, seq } => inbox(from_peer, *epoch, *seq),
            Load::Seen => b"S".to_vec(),
            Load::Meta { prefix } => bytes!(b"M", prefix),
            Load::Pins => b"P".to_vec(),
            Load::Blocked => b"B".to_vec(),
            Load::Connections => b"K".to_vec(),
            _ => return None,
        };
        let wanted = |row: &Row| match (what, row) {
            (Load::Records { user: Some(user) }, Row::Record(row)) => row.user == *user,
            _ => true,
        };
        let mut rows: Vec<(Vec<u8>, &Row)> = self
            .0
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(_, row)| wanted(row))
            .map(|(key, row)| (order(row, key), &**row))
            .filter(|(order, _)| after.is_none_or(|after| order[..] > after.0[..]))
            .collect();
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let shown = |row: &Row| match (what, row) {
            (Load::Outbox, Row::Outbox(row)) => Row::Outbox(OutboxRow { content: None, ..row.clone() }),
            (Load::Inbox, Row::Inbox(row)) => Row::Inbox(InboxRow { content: None, ..row.clone() }),
            _ => row.clone(),
        };
        Some(rows.into_iter().take(limit).map(|(order, row)| (Key(order.into()), shown(row))).collect())
    }
}
