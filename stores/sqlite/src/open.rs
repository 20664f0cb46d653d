//! Opening the file: first only looking at it, then making it ours.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use byway_api::{StoreError, StoreErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, ffi};

use crate::config::SqliteConfig;
use crate::error::{self, NAME};
use crate::schema::{self, APPLICATION_ID, MIGRATIONS};

/// What a SQLite database begins with (<https://www.sqlite.org/fileformat2.html#the_database_header>).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const STATEMENTS: usize = 64;

/// The connection of the writer thread: the file is current and in write-ahead mode, and its live
/// connections are forgotten.
pub(crate) fn writer(path: &Path, config: &SqliteConfig) -> Result<Connection, StoreError> {
    let has_log = length(&beside(path, "-wal"))? > 0;
    let has_journal = length(&beside(path, "-journal"))? > 0;
    // After a crash the file alone may be anything: SQLite recovers it from what lies beside it.
    if !has_log && !has_journal {
        // A file of another kind is refused before SQLite makes files beside it.
        refuse_other_kinds(path)?;
    }
    let failed = |e| error::of(path, e);
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_CREATE, config.busy_timeout).map_err(failed)?;
    if has_log {
        // Closing would copy the log into the file, also when the file turns out not to be for us.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    }
    refuse_foreign(&conn, path)?;
    if config.verify {
        verify(&conn, path)?;
    }
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    prepare(&mut conn, config).map_err(failed)?;
    Ok(conn)
}

/// A connection that only reads, and waits for locks of foreign programs no longer than this.
pub(crate) fn reader(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let open = || {
        let conn = connect(path, OpenFlags::empty(), busy_timeout)?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "query_only", true)?;
        Ok(conn)
    };
    open().map_err(|e| error::of(path, e))
}

fn connect(path: &Path, more: OpenFlags, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    // Without the URI flag a path is only ever a path; without the mutex because one thread uses it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without this guarantee SQLite, as it is compiled in here (STAT4), plans a statement anew whenever
    // its arguments change: three times the work for a page of a few rows.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn)
}

fn prepare(conn: &mut Connection, config: &SqliteConfig) -> rusqlite::Result<()> {
    // Answers with the mode that is in effect.
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let why = format!("write-ahead mode is not available here, only {mode}");
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(why)));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    // The writer checkpoints by itself, because SQLite ignores the errors of an automatic one.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", i64::try_from(config.journal_size_limit).unwrap_or(i64::MAX))?;
    if let Some(pages) = config.max_pages {
        conn.pragma_update(None, "max_page_count", pages)?;
    }
    schema::migrate(conn, MIGRATIONS)?;
    conn.execute("DELETE FROM connections", [])?;
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn length(path: &Path) -> Result<u64, StoreError> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(error::io(format!("{} cannot be read", path.display()), e)),
    }
}

fn refuse_other_kinds(path: &Path) -> Result<(), StoreError> {
    if length(path)? == 0 {
        return Ok(());
    }
    let mut start = [0; MAGIC.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) if start == *MAGIC => Ok(()),
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(error::io(format!("{} cannot be read", path.display()), e))
        }
        _ => Err(corrupt(format!("{} is not a SQLite database", path.display()))),
    }
}

fn refuse_foreign(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |e| error::of(path, e);
    if conn.is_readonly(MAIN_DB).map_err(failed)? {
        let detail = format!("make {} and its directory writable", path.display());
        return Err(StoreError::new(StoreErrorKind::ReadOnly, NAME, detail));
    }
    let id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let version = schema::version(conn).map_err(failed)?;
    let empty = id == 0 && tables == 0;
    if id != APPLICATION_ID && !empty {
        return Err(corrupt(format!(
            "{} belongs to another application (application_id {id:#010x}): choose another file",
            path.display()
        )));
    }
    // A file gets its id and its version in one transaction.
    if id == APPLICATION_ID && version < 1 {
        return Err(corrupt(format!("{} has the impossible version {version}", path.display())));
    }
    let newest = schema::newest(MIGRATIONS);
    if version > newest {
        let detail =
            format!("{} has version {version} and this program knows {newest}: use the newer program", path.display());
        return Err(StoreError::new(StoreErrorKind::NewerSchema, NAME, detail));
    }
    Ok(())
}

fn verify(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict: String =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| error::of(path, e))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(format!("{}: {verdict}", path.display()))) }
}

fn corrupt(detail: String) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, NAME, detail)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;
    use tempfile::TempDir;

    use super::*;

    /// Every change of an argument made SQLite parse and plan the statement again, and the best route of
    /// a user took 70 us instead of 20.
    #[test]
    fn a_statement_is_planned_once_for_all_arguments() {
        let directory = TempDir::new().unwrap();
        let conn = writer(&directory.path().join("store.db"), &SqliteConfig::default()).unwrap();
        let mut best = conn
            .prepare(
                "SELECT peer_id FROM peer_routes WHERE user_id = ? ORDER BY success_rate DESC, last_seen DESC LIMIT ?",
            )
            .unwrap();
        for user in ["alice", "bob", "carol"] {
            assert!(!best.exists((user, 1)).unwrap());
            best.clear_bindings();
        }
        assert_eq!(best.get_status(StatementStatus::RePrepare), 0);
    }
}
