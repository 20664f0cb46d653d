//! Each load as SQL: a page is "the rows behind this key in this order", so that rows written while
//! pages are read move no other row from one page to another.

use byway_api::{ConnectionRow, InboxRow, Key, Load, OutboxRow, PinRow, RecordRow, RouteRow, Row, SeenRow, UserId};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, ffi, params_from_iter};

use crate::column::{self, Columns, hex};

/// What a [`Load`] reads.
struct Page {
    columns: &'static str,
    table: &'static str,
    filter: &'static str,
    arguments: Vec<Value>,
    /// What the rows are ordered by; it tells any two rows apart.
    order: &'static [&'static str],
    descending: bool,
    read: fn(&mut Columns<'_, '_>) -> rusqlite::Result<Row>,
}

macro_rules! outbox_columns {
    ($content:literal) => {
        concat!(
            "message_id, to_user_id, to_peer, epoch, seq, size, reply_to, queued_at, expires_at, retry_count, next_try, ",
            "state, ",
            $content
        )
    };
}

macro_rules! inbox_columns {
    ($content:literal) => {
        concat!(
            "from_peer, epoch, seq, message_id, from_user, size, reply_to, sent_at, received_at, expires_at, late, state, ",
            $content
        )
    };
}

const OUTBOX_ORDER: &[&str] = &["queued_at", "message_id", "to_peer"];
/// `seq < 0` is true for the upper half of the unsigned numbers.
const INBOX_ORDER: &[&str] = &["received_at", "from_peer", "epoch", "seq < 0", "seq"];

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn plan(what: &Load) -> Page {
    let all = |table, columns, order, read| Page {
        columns,
        table,
        filter: "",
        arguments: Vec::new(),
        order,
        descending: false,
        read,
    };
    match what {
        Load::Routes { user } => {
            let page = all(
                "peer_routes",
                "user_id, peer_id, signal_address, last_seen, success_rate, connection_path",
                &["success_rate", "last_seen", "user_id", "peer_id", "signal_address"],
                route,
            );
            of_user(Page { descending: true, ..page }, user.as_ref())
        }
        Load::Records { user } => {
            let page = all("records", "peer_id, user_id, seq, expires_at, record", &["peer_id"], record);
            of_user(page, user.as_ref())
        }
        Load::Outbox => all("offline_messages", outbox_columns!("NULL"), OUTBOX_ORDER, outbox),
        Load::OutboxContent(message) => Page {
            filter: "message_id = ?",
            arguments: vec![text(column::message(message))],
            ..all("offline_messages", outbox_columns!("content"), OUTBOX_ORDER, outbox)
        },
        Load::Inbox => all("inbox", inbox_columns!("NULL"), INBOX_ORDER, inbox),
        Load::InboxContent { from_peer, epoch, seq } => Page {
            filter: "from_peer = ? AND epoch = ? AND seq = ?",
            arguments: vec![
                text(from_peer.to_string()),
                text(column::epoch(*epoch)),
                Value::Integer(column::number(*seq)),
            ],
            ..all("inbox", inbox_columns!("content"), INBOX_ORDER, inbox)
        },
        Load::Seen => all("seen", "from_peer, epoch, floor, above, used_at", &["from_peer", "epoch"], seen),
        Load::Meta { prefix } => Page {
            filter: "key >= ?",
            arguments: vec![text(prefix.as_str())],
            ..all("meta", "key, value", &["key"], meta)
        },
        Load::Pins => all("pins", "user_id, peer_id, since", &["user_id", "peer_id"], pin),
        Load::Blocked => all("blocked", "user_id", &["user_id"], blocked),
        Load::Connections => {
            let columns = "peer_id, connection_state, data_channel_state, connected_at";
            all("connections", columns, &["peer_id"], connection)
        }
        _ => unreachable!("a kind of load this version of the store does not know: update byway-store-sqlite"),
    }
}

fn of_user(page: Page, user: Option<&UserId>) -> Page {
    match user {
        Some(user) => Page { filter: "user_id = ?", arguments: vec![text(user.as_str())], ..page },
        None => page,
    }
}

impl Page {
    fn sql(&self, behind: bool) -> String {
        let order = self.order.join(", ");
        let mut sql = format!("SELECT {}, {order} FROM {}", self.columns, self.table);
        let behind = behind.then(|| {
            let values = vec!["?"; self.order.len()].join(", ");
            format!("({order}) {} ({values})", if self.descending { "<" } else { ">" })
        });
        for (i, condition) in [self.filter, behind.as_deref().unwrap_or_default()].into_iter().enumerate() {
            if !condition.is_empty() {
                let first = i == 0 || self.filter.is_empty();
                sql += &format!(" {} {condition}", if first { "WHERE" } else { "AND" });
            }
        }
        let direction = if self.descending { " DESC" } else { "" };
        sql += &format!(" ORDER BY {}{direction} LIMIT ?", self.order.join(&format!("{direction}, ")));
        sql
    }
}

/// Reads one page.
pub(crate) fn load(
    conn: &Connection,
    what: &Load,
    after: Option<&Key>,
    limit: usize,
) -> rusqlite::Result<Vec<(Key, Row)>> {
    let page = plan(what);
    let sql = page.sql(after.is_some());
    let mut arguments = page.arguments;
    if let Some(after) = after {
        let values = decode(&after.0).filter(|values| values.len() == page.order.len());
        arguments.extend(values.ok_or_else(|| foreign_key(after))?);
    }
    arguments.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let mut statement = conn.prepare_cached(&sql)?;
    let first_key = statement.column_count() - page.order.len();
    let mut rows = statement.query(params_from_iter(arguments))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let value = (page.read)(&mut Columns::new(row))?;
        if let (Load::Meta { prefix }, Row::Meta { key, .. }) = (what, &value)
            && !key.starts_with(prefix.as_str())
        {
            break;
        }
        let mut key = Vec::new();
        for at in first_key..first_key + page.order.len() {
            encode(row.get_ref(at)?, &mut key);
        }
        found.push((Key(key.into()), value));
    }
    Ok(found)
}

/// A key that was not made by this store, or for another load.
fn foreign_key(key: &Key) -> Error {
    Error::SqliteFailure(
        ffi::Error::new(ffi::SQLITE_MISUSE),
        Some(format!("the key {} is not of this load", hex(&key.0[..key.0.len().min(16)]))),
    )
}

const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;

fn encode(value: ValueRef<'_>, key: &mut Vec<u8>) {
    match value {
        ValueRef::Integer(n) => {
            key.push(INTEGER);
            key.extend_from_slice(&n.to_be_bytes());
        }
        ValueRef::Real(x) => {
            key.push(REAL);
            key.extend_from_slice(&x.to_be_bytes());
        }
        ValueRef::Text(text) => {
            key.push(TEXT);
            key.extend_from_slice(&(text.len() as u64).to_be_bytes());
            key.extend_from_slice(text);
        }
        // The columns that rows are ordered by are of the three types above, by the schema.
        ValueRef::Null | ValueRef::Blob(_) => {}
    }
}

fn decode(mut key: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some((kind, rest)) = key.split_first() {
        let (eight, rest) = rest.split_first_chunk::<8>()?;
        key = rest;
        values.push(match *kind {
            INTEGER => Value::Integer(i64::from_be_bytes(*eight)),
            REAL => Value::Real(f64::from_be_bytes(*eight)),
            TEXT => {
                let (text, rest) = key.split_at_checked(usize::try_from(u64::from_be_bytes(*eight)).ok()?)?;
                key = rest;
                Value::Text(str::from_utf8(text).ok()?.to_owned())
            }
            _ => return None,
        });
    }
    Some(values)
}

type Read = rusqlite::Result<Row>;

fn route(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Route(RouteRow {
        user: c.user()?,
        peer: c.peer()?,
        address: c.address()?,
        last_seen: c.time()?,
        success_rate: c.rate()?,
        path: c.text()?,
    }))
}

fn record(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Record(RecordRow {
        peer: c.peer()?,
        user: c.user()?,
        seq: c.number()?,
        expires_at: c.time()?,
        record: c.bytes()?,
    }))
}

fn outbox(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Outbox(OutboxRow {
        message: c.message()?,
        to_user: c.user()?,
        to_peer: c.device()?,
        epoch: c.epoch()?,
        seq: c.number()?,
        size: c.small()?,
        reply_to: c.reply_to()?,
        queued_at: c.time()?,
        expires_at: c.time()?,
        retry_count: c.small()?,
        next_try: c.time()?,
        state: c.outbox_state()?,
        content: c.content()?,
    }))
}

fn inbox(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Inbox(InboxRow {
        from_peer: c.peer()?,
        epoch: c.epoch()?,
        seq: c.number()?,
        message: c.message()?,
        from_user: c.user()?,
        size: c.small()?,
        reply_to: c.reply_to()?,
        sent_at: c.time()?,
        received_at: c.time()?,
        expires_at: c.time()?,
        late: c.flag()?,
        state: c.inbox_state()?,
        content: c.content()?,
    }))
}

fn seen(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Seen(SeenRow {
        from_peer: c.peer()?,
        epoch: c.epoch()?,
        floor: c.number()?,
        above: c.marks()?,
        used_at: c.time()?,
    }))
}

fn meta(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Meta { key: c.text()?, value: c.bytes()? })
}

fn pin(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Pin(PinRow { user: c.user()?, peer: c.peer()?, since: c.time()? }))
}

fn blocked(c: &mut Columns<'_, '_>) -> Read {
    c.user().map(Row::Blocked)
}

fn connection(c: &mut Columns<'_, '_>) -> Read {
    Ok(Row::Connection(ConnectionRow {
        peer: c.peer()?,
        connection_state: c.text()?,
        data_channel_state: c.text()?,
        connected_at: c.time()?,
    }))
}

#[cfg(test)]
mod tests {
    use byway_api::{MessageId, PeerId};

    use super::*;
    use crate::schema;

    /// A load that sorts reads the whole table for every page.
    #[test]
    fn pages_come_from_an_index_in_their_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn, schema::MIGRATIONS).unwrap();
        let loads = [
            (Load::Routes { user: None }, true),
            (Load::Records { user: None }, true),
            (Load::Records { user: UserId::new("a").ok() }, true),
            (Load::Outbox, true),
            (Load::Inbox, true),
            (Load::Seen, true),
            (Load::Meta { prefix: "a".into() }, true),
            (Load::Pins, true),
            (Load::Blocked, true),
            (Load::Connections, true),
            // Few rows, found by their key and sorted.
            (Load::Routes { user: UserId::new("a").ok() }, false),
            (Load::OutboxContent(MessageId::from_bytes([0; 16])), false),
            (Load::InboxContent { from_peer: PeerId::from_bytes([0; 32]), epoch: 0, seq: 0 }, false),
        ];
        for (load, in_order) in loads {
            for behind in [false, true] {
                let sql = format!("EXPLAIN QUERY PLAN {}", plan(&load).sql(behind));
                let mut statement = conn.prepare(&sql).unwrap();
                let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3));
                let steps: Vec<_> = steps.map(Result::unwrap).collect();
                let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE"));
                assert!(!(sorts && in_order), "{load:?}: {steps:?}");
                let scans = steps.iter().any(|step| step.starts_with("SCAN") && !step.contains("INDEX"));
                assert!(!(scans && behind), "{load:?}: {steps:?}");
                if !in_order {
                    assert!(steps.iter().all(|step| !step.starts_with("SCAN")), "{load:?}: {steps:?}");
                }
            }
        }
    }

    #[test]
    fn keys_read_back_and_damaged_ones_are_refused() {
        let mut key = Vec::new();
        encode(ValueRef::Integer(-5), &mut key);
        encode(ValueRef::Text(b"ab"), &mut key);
        encode(ValueRef::Real(0.5), &mut key);
        assert_eq!(decode(&key), Some(vec![Value::Integer(-5), text("ab"), Value::Real(0.5)]));
        for end in (0..key.len()).filter(|end| ![0, 9, 20].contains(end)) {
            assert_eq!(decode(&key[..end]), None, "cut at {end}");
        }
    }
}
