//! The tables, and how an older file becomes a current one.

use rusqlite::{Connection, TransactionBehavior};

/// `application_id` of the files: "Bywy".
pub(crate) const APPLICATION_ID: i32 = 0x4279_7779;

/// Step n takes a file from version n to n + 1. A published step is never changed.
pub(crate) const MIGRATIONS: &[&str] = &[V1];

/// Forms of the columns, for people who look into the file:
/// * devices as the text of their PeerId, messages and epochs as hexadecimal digits of a fixed length;
///   `to_peer` is empty while no device of the user is known;
/// * times in Unix milliseconds;
/// * numbers of 64 bits as SQLite's signed integers with the same bits: only one that no honest sender
///   reaches shows as negative;
/// * `content` and other blobs of any size stand last in their row, so that reading the columns before
///   them never touches the pages they overflow to.
const V1: &str = "
CREATE TABLE peer_routes (
  user_id TEXT NOT NULL, peer_id TEXT NOT NULL, signal_address TEXT NOT NULL,
  last_seen INTEGER NOT NULL, success_rate REAL NOT NULL, connection_path TEXT NOT NULL,
  PRIMARY KEY (user_id, peer_id, signal_address)
) STRICT, WITHOUT ROWID;
CREATE INDEX peer_routes_best ON peer_routes (success_rate, last_seen);
CREATE INDEX peer_routes_peer ON peer_routes (peer_id);

CREATE TABLE offline_messages (
  message_id TEXT NOT NULL, to_user_id TEXT NOT NULL, queued_at INTEGER NOT NULL, retry_count INTEGER NOT NULL,
  to_peer TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, size INTEGER NOT NULL, reply_to TEXT,
  expires_at INTEGER NOT NULL, next_try INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'delivered', 'read', 'expired')),
  content BLOB,
  PRIMARY KEY (message_id, to_peer)
) STRICT;
CREATE INDEX offline_messages_order ON offline_messages (queued_at, message_id, to_peer);

CREATE TABLE connections (
  peer_id TEXT PRIMARY KEY NOT NULL, connection_state TEXT NOT NULL, data_channel_state TEXT NOT NULL,
  connected_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
  peer_id TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, seq INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  record BLOB NOT NULL
) STRICT;
CREATE INDEX records_user ON records (user_id, peer_id);

CREATE TABLE inbox (
  from_peer TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, message_id TEXT NOT NULL,
  from_user TEXT NOT NULL, size INTEGER NOT NULL, reply_to TEXT, sent_at INTEGER NOT NULL,
  received_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, late INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('new', 'read')),
  content BLOB,
  PRIMARY KEY (from_peer, epoch, seq)
) STRICT;
CREATE INDEX inbox_order ON inbox (received_at, from_peer, epoch, seq < 0, seq);

CREATE TABLE seen (
  from_peer TEXT NOT NULL, epoch TEXT NOT NULL, floor INTEGER NOT NULL, used_at INTEGER NOT NULL,
  above BLOB NOT NULL,
  PRIMARY KEY (from_peer, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT;
CREATE TABLE pins (
  user_id TEXT NOT NULL, peer_id TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (user_id, peer_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocked (user_id TEXT PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;
";

/// The version of a file; 0 if it is empty.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<i32> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The version that a list of migrations leads to.
pub(crate) fn newest(migrations: &[&str]) -> i32 {
    i32::try_from(migrations.len()).unwrap_or(i32::MAX)
}

/// Takes the file to the newest version in one transaction: after an error or a power cut it has its
/// old version and its old rows.
pub(crate) fn migrate(conn: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let done = usize::try_from(version(conn)?).unwrap_or(0);
    if done >= migrations.len() {
        return Ok(());
    }
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &migrations[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", newest(migrations))?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_NOTES: &[&str] =
        &[V1, "ALTER TABLE blocked ADD COLUMN note TEXT NOT NULL DEFAULT ''; UPDATE blocked SET note = 'old';"];

    fn old_file() -> Connection {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, &[V1]).unwrap();
        conn.execute("INSERT INTO blocked VALUES ('mallory')", []).unwrap();
        conn
    }

    #[test]
    fn an_older_file_gets_the_missing_steps_and_keeps_its_rows() {
        let mut conn = old_file();
        migrate(&mut conn, WITH_NOTES).unwrap();
        assert_eq!(version(&conn).unwrap(), 2);
        let note: String =
            conn.query_row("SELECT note FROM blocked WHERE user_id = 'mallory'", [], |r| r.get(0)).unwrap();
        assert_eq!(note, "old");
        migrate(&mut conn, WITH_NOTES).unwrap();
        assert_eq!(version(&conn).unwrap(), 2, "a current file is left alone");
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_version() {
        let mut conn = old_file();
        assert!(migrate(&mut conn, &[V1, WITH_NOTES[1], "INSERT INTO nowhere VALUES (1)"]).is_err());
        assert_eq!(version(&conn).unwrap(), 1);
        assert!(conn.prepare("SELECT note FROM blocked").is_err(), "the second step is undone with the third");
        let blocked: i64 = conn.query_row("SELECT count(*) FROM blocked", [], |r| r.get(0)).unwrap();
        assert_eq!(blocked, 1);
    }

    #[test]
    fn a_new_file_is_ours() {
        let conn = old_file();
        let id: i32 = conn.pragma_query_value(None, "application_id", |r| r.get(0)).unwrap();
        assert_eq!(id, APPLICATION_ID);
    }
}
