//! Each load as a range of keys: a page is "the rows behind this key in this order", so that rows
//! written while pages are read move no other row from one page to another.

use std::ops::Bound;

use byway_api::{InboxRow, Key, Load, MessageId, OutboxRow, RouteRow, Row};
use redb::{Database, ReadOnlyTable, ReadableDatabase};

use crate::codec::{Damaged, Decoder};
use crate::error::Failure;
use crate::keys;
use crate::row;
use crate::rows::ROWS;

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Page = Result<Vec<(Key, Row)>, Failure>;

/// Reads one page, as of the last commit.
pub(crate) fn load(database: &Database, what: &Load, after: Option<&Key>, limit: usize) -> Page {
    let table = database.begin_read()?.open_table(ROWS)?;
    let range = |prefix: Vec<u8>| Range { prefix, after, limit };
    match what {
        Load::Routes { user: Some(user) } => range(keys::of_user(keys::BEST_ROUTE, user))
            .rows(&table, |key, value| Ok(Row::Route(row::read_best_route(key, value)?))),
        Load::Routes { user: None } => range(keys::all(keys::ANY_ROUTE)).rows(&table, |key, _| any_route(&table, key)),
        Load::Records { user: None } => {
            range(keys::all(keys::RECORD)).rows(&table, |key, value| Ok(Row::Record(row::read_record(key, value)?)))
        }
        Load::Records { user: Some(user) } => range(keys::of_user(keys::RECORD_OF, user)).rows(&table, |key, _| {
            let key = keys::of_peer(keys::RECORD, &row::read_record_of(key)?);
            Ok(Row::Record(row::read_record(&key, &part(&table, &key)?)?))
        }),
        Load::Outbox => range(keys::all(keys::OUTBOX_ORDER)).rows(&table, |key, _| {
            let mut k = Decoder::key(key);
            k.time()?;
            let key = keys::outbox(keys::OUTBOX, &k.message()?, k.device()?.as_ref());
            Ok(Row::Outbox(row::read_outbox(&key, &part(&table, &key)?)?))
        }),
        Load::OutboxContent(message) => outbox_content(&table, message, after, limit),
        Load::Inbox => range(keys::all(keys::INBOX_ORDER)).rows(&table, |key, _| {
            let mut k = Decoder::key(key);
            k.time()?;
            let key = keys::inbox(keys::INBOX, &k.peer()?, k.number()?, k.number()?);
            Ok(Row::Inbox(row::read_inbox(&key, &part(&table, &key)?)?))
        }),
        Load::InboxContent { from_peer, epoch, seq } => {
            range(keys::inbox(keys::INBOX, from_peer, *epoch, *seq)).rows(&table, |key, value| {
                let content = content(&table, &keys::with_kind(keys::INBOX_CONTENT, key))?;
                Ok(Row::Inbox(InboxRow { content, ..row::read_inbox(key, value)? }))
            })
        }
        Load::Seen => {
            range(keys::all(keys::SEEN)).rows(&table, |key, value| Ok(Row::Seen(row::read_seen(key, value)?)))
        }
        Load::Meta { prefix } => range(keys::meta(prefix)).rows(&table, |key, value| {
            Ok(Row::Meta { key: row::read_meta_key(key)?, value: row::read_content(value)? })
        }),
        Load::Pins => range(keys::all(keys::PIN)).rows(&table, |key, value| Ok(Row::Pin(row::read_pin(key, value)?))),
        Load::Blocked => {
            range(keys::all(keys::BLOCKED)).rows(&table, |key, _| Ok(Row::Blocked(row::read_blocked(key)?)))
        }
        Load::Connections => range(keys::all(keys::CONNECTION))
            .rows(&table, |key, value| Ok(Row::Connection(row::read_connection(key, value)?))),
        _ => unreachable!("a kind of load this version of the store does not know: update byway-store-redb"),
    }
}

/// The keys with a prefix, behind one of them.
struct Range<'a> {
    prefix: Vec<u8>,
    after: Option<&'a Key>,
    limit: usize,
}

impl Range<'_> {
    /// The rows of the range; the key of a row is the key of its page.
    fn rows(self, table: &Table, read: impl Fn(&[u8], &[u8]) -> Result<Row, Failure>) -> Page {
        let start = match self.after {
            None => Bound::Included(&*self.prefix),
            Some(after) if after.0.starts_with(&self.prefix) => Bound::Excluded(&*after.0),
            Some(_) => return Err(Failure::ForeignKey),
        };
        let mut found = Vec::new();
        for entry in table.range::<&[u8]>((start, Bound::Unbounded))?.take(self.limit) {
            let (key, value) = entry?;
            if !key.value().starts_with(&self.prefix) {
                break;
            }
            found.push((Key(bytes::Bytes::copy_from_slice(key.value())), read(key.value(), value.value())?));
        }
        Ok(found)
    }
}

/// What another key promises to be there.
fn part(table: &Table, key: &[u8]) -> Result<Vec<u8>, Failure> {
    let value = table.get(key)?.ok_or(Damaged::Missing)?;
    Ok(value.value().to_vec())
}

fn content(table: &Table, key: &[u8]) -> Result<Option<bytes::Bytes>, Failure> {
    Ok(table.get(key)?.map(|value| row::read_content(value.value())).transpose()?)
}

fn any_route(table: &Table, key: &[u8]) -> Result<Row, Failure> {
    let found = row::read_any_route(key)?;
    let RouteRow { user, peer, address, success_rate, last_seen, .. } = &found;
    let rank = keys::Rank { success_rate: *success_rate, last_seen: *last_seen };
    let key = keys::best_route(user, rank, peer, address);
    Ok(Row::Route(row::read_best_route(&key, &part(table, &key)?)?))
}

/// Few rows, one for each device of a user: found by their message and sorted.
fn outbox_content(table: &Table, message: &MessageId, after: Option<&Key>, limit: usize) -> Page {
    if after.is_some_and(|after| after.0.first() != Some(&keys::OUTBOX_ORDER)) {
        return Err(Failure::ForeignKey);
    }
    let prefix = keys::outbox(keys::OUTBOX, message, None);
    let mut found = Vec::new();
    for entry in table.range::<&[u8]>(&*prefix..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(&prefix) {
            break;
        }
        let row = row::read_outbox(key.value(), value.value())?;
        let order = keys::outbox_order(row.queued_at, message, row.to_peer.as_ref());
        if after.is_none_or(|after| *order > *after.0) {
            found.push((order, key.value().to_vec(), row));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.truncate(limit);
    let with_content = |(order, key, row): (Vec<u8>, Vec<u8>, OutboxRow)| {
        let content = content(table, &keys::with_kind(keys::OUTBOX_CONTENT, &key))?;
        Ok((Key(order.into()), Row::Outbox(OutboxRow { content, ..row })))
    };
    found.into_iter().map(with_content).collect()
}
