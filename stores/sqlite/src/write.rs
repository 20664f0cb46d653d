//! Each write as SQL. Every statement is prepared once.

use byway_api::{
    Applied, ConnectionRow, InboxRow, MessageId, OutboxRow, OutboxState, PeerId, RecordRow, RouteRow, SeenRow, Write,
};
use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::column;

type Answer = rusqlite::Result<Applied>;

/// Applies one write inside the open transaction.
pub(crate) fn apply(conn: &Connection, write: &Write) -> Answer {
    match write {
        Write::Append(row) => append(conn, row),
        Write::Bind { message, rows } => bind(conn, message, rows),
        Write::Receive { row, seen } => receive(conn, row, seen),
        Write::Progress { message, to_peer, state, retry_count, next_try } => {
            let keys = (column::message(message), column::device(to_peer.as_ref()));
            let content = if *state == OutboxState::Queued { "" } else { ", content = NULL" };
            let sql = format!(
                "UPDATE offline_messages SET state = ?3, retry_count = ?4, next_try = ?5{content}
                 WHERE message_id = ?1 AND to_peer = ?2"
            );
            let state = column::outbox_state(*state);
            changed(conn, &sql, params![keys.0, keys.1, state, retry_count, next_try.as_millis()], Applied::Missing)
        }
        Write::Forget { message, to_peer } => changed(
            conn,
            "DELETE FROM offline_messages WHERE message_id = ?1 AND to_peer = ?2",
            params![column::message(message), column::device(to_peer.as_ref())],
            Applied::Missing,
        ),
        Write::Mark { from_peer, epoch, seq, state } => changed(
            conn,
            "UPDATE inbox SET state = ?4 WHERE from_peer = ?1 AND epoch = ?2 AND seq = ?3",
            params![from_peer.to_string(), column::epoch(*epoch), column::number(*seq), column::inbox_state(*state)],
            Applied::Missing,
        ),
        Write::Take { from_peer, epoch, seq } => changed(
            conn,
            "DELETE FROM inbox WHERE from_peer = ?1 AND epoch = ?2 AND seq = ?3",
            params![from_peer.to_string(), column::epoch(*epoch), column::number(*seq)],
            Applied::Missing,
        ),
        Write::Seen(mark) => seen(conn, mark),
        Write::Unsee { from_peer, epoch } => changed(
            conn,
            "DELETE FROM seen WHERE from_peer = ?1 AND epoch = ?2",
            params![from_peer.to_string(), column::epoch(*epoch)],
            Applied::Missing,
        ),
        Write::Route(row) => route(conn, row),
        Write::DropPeer { peer } => {
            let peer = peer.to_string();
            let routes = execute(conn, "DELETE FROM peer_routes WHERE peer_id = ?1", [&peer])?;
            let records = execute(conn, "DELETE FROM records WHERE peer_id = ?1", [&peer])?;
            Ok(if routes + records > 0 { Applied::Done } else { Applied::Missing })
        }
        Write::Record(row) => record(conn, row),
        Write::Meta { key, value: Some(value), .. } => {
            execute(conn, "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, &value[..]])?;
            Ok(Applied::Done)
        }
        Write::Meta { key, value: None, .. } => {
            execute(conn, "DELETE FROM meta WHERE key = ?1", [key])?;
            Ok(Applied::Done)
        }
        Write::Pin(pin) => changed(
            conn,
            "INSERT OR IGNORE INTO pins (user_id, peer_id, since) VALUES (?1, ?2, ?3)",
            params![pin.user.as_str(), pin.peer.to_string(), pin.since.as_millis()],
            Applied::Duplicate,
        ),
        Write::Unpin { user } => {
            changed(conn, "DELETE FROM pins WHERE user_id = ?1", [user.as_str()], Applied::Missing)
        }
        Write::Block { user, blocked: true } => {
            execute(conn, "INSERT OR IGNORE INTO blocked (user_id) VALUES (?1)", [user.as_str()])?;
            Ok(Applied::Done)
        }
        Write::Block { user, blocked: false } => {
            execute(conn, "DELETE FROM blocked WHERE user_id = ?1", [user.as_str()])?;
            Ok(Applied::Done)
        }
        Write::Connection(row) => connection(conn, row),
        Write::Disconnected { peer } => {
            changed(conn, "DELETE FROM connections WHERE peer_id = ?1", [peer.to_string()], Applied::Missing)
        }
        _ => unreachable!("a kind of write this version of the store does not know: update byway-store-sqlite"),
    }
}

fn execute(conn: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    conn.prepare_cached(sql)?.execute(params)
}

fn changed(conn: &Connection, sql: &str, params: impl Params, otherwise: Applied) -> Answer {
    Ok(if execute(conn, sql, params)? > 0 { Applied::Done } else { otherwise })
}

/// `OR IGNORE` would also ignore a NULL or a wrong state; only the key may be there.
const INSERT_OUTBOX: &str = "
INSERT INTO offline_messages (message_id, to_user_id, to_peer, epoch, seq, content, size, reply_to, queued_at,
  expires_at, retry_count, next_try, state)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
ON CONFLICT (message_id, to_peer) DO NOTHING";

fn insert_outbox(conn: &Connection, message: &MessageId, row: &OutboxRow, content: Option<&[u8]>) -> Answer {
    let params = params![
        column::message(message),
        row.to_user.as_str(),
        column::device(row.to_peer.as_ref()),
        column::epoch(row.epoch),
        column::number(row.seq),
        content,
        row.size,
        row.reply_to.as_ref().map(column::message),
        row.queued_at.as_millis(),
        row.expires_at.as_millis(),
        row.retry_count,
        row.next_try.as_millis(),
        column::outbox_state(row.state),
    ];
    changed(conn, INSERT_OUTBOX, params, Applied::Duplicate)
}

fn append(conn: &Connection, row: &OutboxRow) -> Answer {
    insert_outbox(conn, &row.message, row, row.content.as_deref())
}

/// A row that is there already stays: it may have been delivered.
fn bind(conn: &Connection, message: &MessageId, rows: &[OutboxRow]) -> Answer {
    if rows.is_empty() {
        return Ok(Applied::Missing);
    }
    let key = column::message(message);
    let unbound: Option<Option<Vec<u8>>> = conn
        .prepare_cached("DELETE FROM offline_messages WHERE message_id = ?1 AND to_peer = '' RETURNING content")?
        .query_row([&key], |row| row.get(0))
        .optional()?;
    let Some(content) = unbound else { return Ok(Applied::Missing) };
    for row in rows {
        insert_outbox(conn, message, row, content.as_deref())?;
    }
    Ok(Applied::Done)
}

fn receive(conn: &Connection, row: &InboxRow, mark: &SeenRow) -> Answer {
    if is_marked(conn, &row.from_peer, row.epoch, row.seq)? {
        return Ok(Applied::Duplicate);
    }
    const INSERT: &str = "
        INSERT INTO inbox (from_peer, epoch, seq, message_id, from_user, content, size, reply_to, sent_at, received_at,
          expires_at, late, state)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
        ON CONFLICT (from_peer, epoch, seq) DO NOTHING";
    let params = params![
        row.from_peer.to_string(),
        column::epoch(row.epoch),
        column::number(row.seq),
        column::message(&row.message),
        row.from_user.as_str(),
        row.content.as_deref(),
        row.size,
        row.reply_to.as_ref().map(column::message),
        row.sent_at.as_millis(),
        row.received_at.as_millis(),
        row.expires_at.as_millis(),
        row.late,
        column::inbox_state(row.state),
    ];
    match changed(conn, INSERT, params, Applied::Duplicate)? {
        Applied::Done => seen(conn, mark),
        duplicate => Ok(duplicate),
    }
}

fn is_marked(conn: &Connection, peer: &PeerId, epoch: u64, seq: u64) -> rusqlite::Result<bool> {
    let marked = conn
        .prepare_cached("SELECT floor, above FROM seen WHERE from_peer = ?1 AND epoch = ?2")?
        .query_row(params![peer.to_string(), column::epoch(epoch)], |row| {
            let mut columns = column::Columns::new(row);
            let floor = columns.number()?;
            Ok(seq < floor || columns.marks()?.contains(&seq))
        })
        .optional()?;
    Ok(marked.unwrap_or(false))
}

fn seen(conn: &Connection, mark: &SeenRow) -> Answer {
    let params = params![
        mark.from_peer.to_string(),
        column::epoch(mark.epoch),
        column::number(mark.floor),
        mark.used_at.as_millis(),
        column::marks(&mark.above),
    ];
    const REPLACE: &str =
        "INSERT OR REPLACE INTO seen (from_peer, epoch, floor, used_at, above) VALUES (?1, ?2, ?3, ?4, ?5)";
    execute(conn, REPLACE, params)?;
    Ok(Applied::Done)
}

fn route(conn: &Connection, row: &RouteRow) -> Answer {
    const UPSERT: &str = "
        INSERT INTO peer_routes (user_id, peer_id, signal_address, last_seen, success_rate, connection_path)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (user_id, peer_id, signal_address) DO UPDATE SET
          last_seen = excluded.last_seen, success_rate = excluded.success_rate,
          connection_path = excluded.connection_path";
    let params = params![
        row.user.as_str(),
        row.peer.to_string(),
        row.address.as_str(),
        row.last_seen.as_millis(),
        column::rate(row.success_rate),
        row.path,
    ];
    execute(conn, UPSERT, params)?;
    Ok(Applied::Done)
}

fn record(conn: &Connection, row: &RecordRow) -> Answer {
    let peer = row.peer.to_string();
    let stored: Option<i64> = conn
        .prepare_cached("SELECT seq FROM records WHERE peer_id = ?1")?
        .query_row([&peer], |row| row.get(0))
        .optional()?;
    if stored.is_some_and(|seq| seq.cast_unsigned() >= row.seq) {
        return Ok(Applied::Duplicate);
    }
    let params = params![peer, row.user.as_str(), column::number(row.seq), row.expires_at.as_millis(), &row.record[..]];
    const REPLACE: &str =
        "INSERT OR REPLACE INTO records (peer_id, user_id, seq, expires_at, record) VALUES (?1, ?2, ?3, ?4, ?5)";
    execute(conn, REPLACE, params)?;
    Ok(Applied::Done)
}

fn connection(conn: &Connection, row: &ConnectionRow) -> Answer {
    const REPLACE: &str = "
        INSERT OR REPLACE INTO connections (peer_id, connection_state, data_channel_state, connected_at)
        VALUES (?1, ?2, ?3, ?4)";
    let params =
        params![row.peer.to_string(), row.connection_state, row.data_channel_state, row.connected_at.as_millis()];
    execute(conn, REPLACE, params)?;
    Ok(Applied::Done)
}
