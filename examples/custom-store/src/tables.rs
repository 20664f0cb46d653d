//! The rows, what each write does to them, and in which order they are read.

use std::collections::BTreeMap;

use byway_api::{
    Applied, Bytes, InboxRow, Key, Load, MessageId, OutboxRow, OutboxState, PeerId, Row, UserId, WallTime, Write,
};

use crate::codec::{Field, put_row, take_row};

/// Kind and key of a row.
type Id = Vec<u8>;

const ROUTE: u8 = 0;
const RECORD: u8 = 1;
const OUTBOX: u8 = 2;
const INBOX: u8 = 3;
const SEEN: u8 = 4;
const META: u8 = 5;
const PIN: u8 = 6;
const BLOCKED: u8 = 7;
const CONNECTION: u8 = 8;

macro_rules! id {
    ($kind:expr) => { vec![$kind] };
    ($kind:expr, $($field:expr),+) => {{
        let mut id = vec![$kind];
        $($field.put(&mut id);)+
        id
    }};
}

/// Every row, by kind and key.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    rows: BTreeMap<Id, Row>,
}

/// What a batch did: as bytes for the log, and how to undo it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) record: Vec<u8>,
    undo: Vec<(Id, Option<Row>)>,
}

fn put_change(id: &Id, row: Option<&Row>, to: &mut Vec<u8>) {
    let start = to.len();
    Bytes::copy_from_slice(id).put(to);
    row.is_some().put(to);
    // Live connections end with the process and are not in the log.
    if id[0] == CONNECTION || row.is_some_and(|row| !put_row(row, to)) {
        to.truncate(start);
    }
}

impl Tables {
    /// Repeats what stands in the log; `None` if that is not what `apply` wrote.
    pub(crate) fn replay(&mut self, mut record: &[u8]) -> Option<()> {
        while !record.is_empty() {
            let id = Bytes::take(&mut record)?.to_vec();
            match bool::take(&mut record)? {
                true => drop(self.rows.insert(id, take_row(&mut record)?)),
                false => drop(self.rows.remove(&id)),
            }
        }
        Some(())
    }

    /// Everything, as one record.
    pub(crate) fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        self.rows.iter().for_each(|(id, row)| put_change(id, Some(row), &mut record));
        record
    }

    pub(crate) fn undo(&mut self, done: Done) {
        for (id, before) in done.undo.into_iter().rev() {
            match before {
                Some(row) => drop(self.rows.insert(id, row)),
                None => drop(self.rows.remove(&id)),
            }
        }
    }

    fn set(&mut self, id: Id, row: Option<Row>, done: &mut Done) -> Applied {
        put_change(&id, row.as_ref(), &mut done.record);
        let before = match row {
            Some(row) => self.rows.insert(id.clone(), row),
            None => self.rows.remove(&id),
        };
        done.undo.push((id, before));
        Applied::Done
    }

    fn add(&mut self, id: Id, row: Row, done: &mut Done) -> Applied {
        if self.rows.contains_key(&id) { Applied::Duplicate } else { self.set(id, Some(row), done) }
    }

    fn change(&mut self, id: Id, done: &mut Done, change: impl FnOnce(&mut Row)) -> Applied {
        let Some(mut row) = self.rows.get(&id).cloned() else { return Applied::Missing };
        change(&mut row);
        self.set(id, Some(row), done)
    }

    fn remove(&mut self, gone: impl Fn(&Id, &Row) -> bool, done: &mut Done) -> Applied {
        let ids: Vec<_> = self.rows.iter().filter(|(id, row)| gone(id, row)).map(|(id, _)| id.clone()).collect();
        let applied = if ids.is_empty() { Applied::Missing } else { Applied::Done };
        for id in ids {
            self.set(id, None, done);
        }
        applied
    }

    fn remove_one(&mut self, id: Id, done: &mut Done) -> Applied {
        if self.rows.contains_key(&id) { self.set(id, None, done) } else { Applied::Missing }
    }

    /// Never fails: a batch is checked before its first write.
    pub(crate) fn apply(&mut self, write: &Write, done: &mut Done) -> Applied {
        match write {
            Write::Append(row) => self.add(id!(OUTBOX, row.message, row.to_peer), Row::Outbox(row.clone()), done),
            Write::Bind { message, rows } => {
                let unbound = id!(OUTBOX, message, None::<PeerId>);
                let Some(Row::Outbox(was)) = self.rows.get(&unbound).filter(|_| !rows.is_empty()).cloned() else {
                    return Applied::Missing;
                };
                self.set(unbound, None, done);
                for row in rows {
                    let row = OutboxRow { message: *message, content: was.content.clone(), ..row.clone() };
                    self.add(id!(OUTBOX, message, row.to_peer), Row::Outbox(row), done);
                }
                Applied::Done
            }
            Write::Receive { row, seen } => {
                let marked = matches!(self.rows.get(&id!(SEEN, row.from_peer, row.epoch)),
                    Some(Row::Seen(mark)) if row.seq < mark.floor || mark.above.contains(&row.seq));
                let inbox = id!(INBOX, row.from_peer, row.epoch, row.seq);
                if marked || self.rows.contains_key(&inbox) {
                    return Applied::Duplicate;
                }
                self.set(inbox, Some(Row::Inbox(row.clone())), done);
                self.set(id!(SEEN, seen.from_peer, seen.epoch), Some(Row::Seen(seen.clone())), done)
            }
            Write::Progress { message, to_peer, state, retry_count, next_try } => {
                self.change(id!(OUTBOX, message, to_peer), done, |row| {
                    if let Row::Outbox(row) = row {
                        (row.state, row.retry_count, row.next_try) = (*state, *retry_count, *next_try);
                        row.content.take_if(|_| *state != OutboxState::Queued);
                    }
                })
            }
            Write::Forget { message, to_peer } => self.remove_one(id!(OUTBOX, message, to_peer), done),
            Write::Mark { from_peer, epoch, seq, state } => {
                self.change(id!(INBOX, from_peer, epoch, seq), done, |row| {
                    if let Row::Inbox(row) = row {
                        row.state = *state;
                    }
                })
            }
            Write::Take { from_peer, epoch, seq } => self.remove_one(id!(INBOX, from_peer, epoch, seq), done),
            Write::Seen(mark) => self.set(id!(SEEN, mark.from_peer, mark.epoch), Some(Row::Seen(mark.clone())), done),
            Write::Unsee { from_peer, epoch } => self.remove_one(id!(SEEN, from_peer, epoch), done),
            Write::Route(r) => self.set(id!(ROUTE, r.user, r.peer, r.address), Some(Row::Route(r.clone())), done),
            Write::DropPeer { peer } => self.remove(
                |_, row| match row {
                    Row::Route(route) => route.peer == *peer,
                    Row::Record(record) => record.peer == *peer,
                    _ => false,
                },
                done,
            ),
            Write::Record(record) => {
                let id = id!(RECORD, record.peer);
                match self.rows.get(&id) {
                    Some(Row::Record(stored)) if stored.seq >= record.seq => Applied::Duplicate,
                    _ => self.set(id, Some(Row::Record(record.clone())), done),
                }
            }
            Write::Meta { key, value, .. } => {
                let row = value.clone().map(|value| Row::Meta { key: key.clone(), value });
                self.set(id!(META, key), row, done)
            }
            Write::Pin(pin) => self.add(id!(PIN, pin.user, pin.peer), Row::Pin(pin.clone()), done),
            Write::Unpin { user } => {
                let of_user = id!(PIN, user);
                self.remove(|id, _| id.starts_with(&of_user), done)
            }
            Write::Block { user, blocked } => {
                self.set(id!(BLOCKED, user), blocked.then(|| Row::Blocked(user.clone())), done)
            }
            Write::Connection(row) => self.set(id!(CONNECTION, row.peer), Some(Row::Connection(row.clone())), done),
            Write::Disconnected { peer } => self.remove_one(id!(CONNECTION, peer), done),
            _ => unreachable!("a kind of write this version of the store does not know: update it"),
        }
    }

    /// The first `limit` rows behind `after`. Looks at every row of the kind for every page.
    pub(crate) fn load(&self, what: &Load, after: Option<&Key>, limit: usize) -> Vec<(Key, Row)> {
        let of = |wanted: &Option<UserId>, user: &UserId| wanted.as_ref().is_none_or(|wanted| wanted == user);
        let wanted = |row: &Row| match (what, row) {
            (Load::Routes { user }, Row::Route(row)) => of(user, &row.user),
            (Load::Records { user }, Row::Record(row)) => of(user, &row.user),
            (Load::Meta { prefix }, Row::Meta { key, .. }) => key.starts_with(prefix.as_str()),
            _ => true,
        };
        let prefix = match what {
            Load::Routes { .. } => id!(ROUTE),
            Load::Records { .. } => id!(RECORD),
            Load::Outbox => id!(OUTBOX),
            Load::OutboxContent(message) => id!(OUTBOX, message),
            Load::Inbox => id!(INBOX),
            Load::InboxContent { from_peer, epoch, seq } => id!(INBOX, from_peer, epoch, seq),
            Load::Seen => id!(SEEN),
            Load::Meta { .. } => id!(META),
            Load::Pins => id!(PIN),
            Load::Blocked => id!(BLOCKED),
            Load::Connections => id!(CONNECTION),
            _ => unreachable!("a kind of load this version of the store does not know: update it"),
        };
        let rows = self.rows.range(prefix.clone()..).take_while(|(id, _)| id.starts_with(&prefix));
        let rows = rows.filter(|(_, row)| wanted(row)).map(|(_, row)| (order(row), row));
        let mut page: Vec<_> = rows.filter(|(key, _)| after.is_none_or(|after| key[..] > after.0[..])).collect();
        page.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        page.truncate(limit);
        let give = |row: &Row| match (what, row.clone()) {
            (Load::Outbox, Row::Outbox(row)) => Row::Outbox(OutboxRow { content: None, ..row }),
            (Load::Inbox, Row::Inbox(row)) => Row::Inbox(InboxRow { content: None, ..row }),
            (_, row) => row,
        };
        page.into_iter().map(|(key, row)| (Key(key.into()), give(row))).collect()
    }
}

/// Bytes that sort as the rows of a kind do, so that a page is "what lies behind this".
fn order(row: &Row) -> Vec<u8> {
    let time = |at: WallTime| (at.as_millis().cast_unsigned() ^ (1 << 63)).to_be_bytes();
    let peer = |peer: Option<&PeerId>| peer.map(PeerId::as_bytes).map_or(&[][..], |id| &id[..]).to_vec();
    match row {
        Row::Route(row) => {
            // Best and newest first.
            let rate = row.success_rate.to_bits();
            let rate = if rate >> 63 == 1 { rate } else { !(rate | 1 << 63) };
            let seen = time(row.last_seen).map(|byte| !byte);
            [&rate.to_be_bytes()[..], &seen, &id!(ROUTE, row.user, row.peer, row.address)].concat()
        }
        Row::Record(row) => peer(Some(&row.peer)),
        Row::Outbox(row) => {
            [&time(row.queued_at)[..], MessageId::as_bytes(&row.message), &peer(row.to_peer.as_ref())].concat()
        }
        Row::Inbox(row) => {
            let of_sender = [row.epoch.to_be_bytes(), row.seq.to_be_bytes()].concat();
            [&time(row.received_at)[..], row.from_peer.as_bytes(), &of_sender].concat()
        }
        Row::Seen(row) => [&row.from_peer.as_bytes()[..], &row.epoch.to_be_bytes()].concat(),
        Row::Meta { key, .. } => key.as_bytes().to_vec(),
        Row::Pin(row) => [row.user.as_str().as_bytes(), &[0], row.peer.as_bytes()].concat(),
        Row::Blocked(user) => user.as_str().as_bytes().to_vec(),
        Row::Connection(row) => peer(Some(&row.peer)),
        _ => unreachable!("a kind of row this version of the store does not know: update it"),
    }
}
