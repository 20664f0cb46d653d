//! What makes a redb database a store of Byway, and how an older one becomes a current one.

use redb::{Database, Durability, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use crate::error::Failure;
use crate::keys;
use crate::rows::{ROWS, Rows};

/// The table that tells what a file is. Its name and its types are the same in every version.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("byway");
const VERSION: &str = "version";

/// Takes a file from one version to the next.
pub(crate) type Step = fn(&WriteTransaction) -> Result<(), Failure>;

/// Step n takes a file from version n to n + 1. A published step is never changed.
pub(crate) const MIGRATIONS: &[Step] = &[v1];

fn v1(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(ROWS)?;
    Ok(())
}

/// What a database is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has no table yet.
    Empty,
    /// A store of this version.
    Store(u64),
    /// It has tables, and not ours.
    Foreign,
}

pub(crate) fn kind(database: &Database) -> Result<Kind, Failure> {
    let transaction = database.begin_read()?;
    match transaction.open_table(ABOUT) {
        Ok(about) => match about.get(VERSION)? {
            Some(version) => Ok(Kind::Store(version.value())),
            None => Ok(Kind::Foreign),
        },
        Err(TableError::TableDoesNotExist(_)) => {
            let foreign = transaction.list_tables()?.next().is_some();
            let foreign = foreign || transaction.list_multimap_tables()?.next().is_some();
            Ok(if foreign { Kind::Foreign } else { Kind::Empty })
        }
        Err(TableError::Storage(error)) => Err(error.into()),
        // A table of that name, made by somebody else.
        Err(_) => Ok(Kind::Foreign),
    }
}

/// The version that a list of migrations leads to.
pub(crate) fn newest(migrations: &[Step]) -> u64 {
    migrations.len() as u64
}

/// Takes the file to the newest version and forgets live connections, in one transaction: after an
/// error or a power cut it has its old version and its old rows.
pub(crate) fn prepare(database: &Database, migrations: &[Step]) -> Result<(), Failure> {
    let version = match kind(database)? {
        Kind::Store(version) => version,
        Kind::Empty | Kind::Foreign => 0,
    };
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let missing = usize::try_from(version).ok().and_then(|done| migrations.get(done..)).unwrap_or_default();
    for step in missing {
        step(&transaction)?;
    }
    if !missing.is_empty() {
        transaction.open_table(ABOUT)?.insert(VERSION, newest(migrations))?;
    }
    let mut changed = !missing.is_empty();
    let mut rows = Rows::open(&transaction)?;
    for connection in rows.keys(&keys::all(keys::CONNECTION))? {
        changed |= rows.remove(&connection)?;
    }
    drop(rows);
    if changed {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::ReadableTable;
    use redb::backends::InMemoryBackend;

    use super::*;

    const NOTES: TableDefinition<'_, &str, &str> = TableDefinition::new("notes");
    const WITH_NOTES: &[Step] = &[v1, |transaction| {
        transaction.open_table(NOTES)?.insert("mallory", "old")?;
        Ok(())
    }];

    fn old_file() -> Database {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        prepare(&database, &[v1]).unwrap();
        let transaction = database.begin_write().unwrap();
        Rows::open(&transaction).unwrap().put(&[keys::BLOCKED, b'm'], &[]).unwrap();
        transaction.commit().unwrap();
        database
    }

    fn has_notes(database: &Database) -> bool {
        database.begin_read().unwrap().open_table(NOTES).is_ok()
    }

    fn rows(database: &Database) -> usize {
        database.begin_read().unwrap().open_table(ROWS).unwrap().iter().unwrap().count()
    }

    #[test]
    fn an_older_file_gets_the_missing_steps_and_keeps_its_rows() {
        let database = old_file();
        prepare(&database, WITH_NOTES).unwrap();
        assert_eq!(kind(&database).unwrap(), Kind::Store(2));
        assert!(has_notes(&database));
        assert_eq!(rows(&database), 1);
        prepare(&database, WITH_NOTES).unwrap();
        assert_eq!(kind(&database).unwrap(), Kind::Store(2), "a current file is left alone");
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_version() {
        let database = old_file();
        assert!(prepare(&database, &[v1, WITH_NOTES[1], |_| Err(Failure::ForeignKey)]).is_err());
        assert_eq!(kind(&database).unwrap(), Kind::Store(1));
        assert!(!has_notes(&database), "the second step is undone with the third");
        assert_eq!(rows(&database), 1);
    }

    #[test]
    fn live_connections_are_forgotten_and_nothing_else() {
        let database = old_file();
        let transaction = database.begin_write().unwrap();
        Rows::open(&transaction).unwrap().put(&[keys::CONNECTION, 7], &[]).unwrap();
        transaction.commit().unwrap();
        prepare(&database, MIGRATIONS).unwrap();
        assert_eq!(rows(&database), 1);
    }

    #[test]
    fn a_database_of_somebody_else_is_foreign() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        assert_eq!(kind(&database).unwrap(), Kind::Empty);
        let transaction = database.begin_write().unwrap();
        transaction.open_table(NOTES).unwrap();
        transaction.commit().unwrap();
        assert_eq!(kind(&database).unwrap(), Kind::Foreign);
        let same_name: TableDefinition<'_, u64, u64> = TableDefinition::new("byway");
        let transaction = database.begin_write().unwrap();
        transaction.open_table(same_name).unwrap();
        transaction.commit().unwrap();
        assert_eq!(kind(&database).unwrap(), Kind::Foreign);
    }
}
