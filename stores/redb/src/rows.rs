//! The one table, inside a transaction.

use redb::{ReadableTable, Table, TableDefinition};

use crate::error::Failure;

/// Every row and index of the store; see [`keys`](crate::keys).
pub(crate) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// The table while it is written.
pub(crate) struct Rows<'txn>(Table<'txn, &'static [u8], &'static [u8]>);

impl<'txn> Rows<'txn> {
    pub(crate) fn open(transaction: &'txn redb::WriteTransaction) -> Result<Self, Failure> {
        Ok(Self(transaction.open_table(ROWS)?))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.0.get(key)?.map(|value| value.value().to_vec()))
    }

    pub(crate) fn has(&self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.0.get(key)?.is_some())
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.0.insert(key, value)?;
        Ok(())
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.0.remove(key)?.is_some())
    }

    /// The keys that begin so.
    pub(crate) fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let mut found = Vec::new();
        for entry in self.0.range(prefix..)? {
            let (key, _) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push(key.value().to_vec());
        }
        Ok(found)
    }
}
