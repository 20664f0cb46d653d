//! Opening: first only looking, then making it ours.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use byway_api::{StoreError, StoreErrorKind};
use redb::{Builder, Database};

use crate::config::RedbConfig;
use crate::error::{self, Failure, NAME};
use crate::schema::{self, Kind, MIGRATIONS};
use crate::storage::{self, Look, Opener, Storage};

/// Bytes that can be opened, and opened again.
pub(crate) struct Medium {
    pub(crate) name: String,
    pub(crate) open: Opener,
    pub(crate) config: RedbConfig,
}

impl Medium {
    /// The store, current and without live connections. What is no store of Byway, or not one for this
    /// version, is left as it is.
    pub(crate) fn open(&self) -> Result<Database, StoreError> {
        self.refuse_foreign()?;
        let failed = |e: Failure| e.at(&self.name);
        let database = self.reopen().map_err(failed)?;
        schema::prepare(&database, MIGRATIONS).map_err(failed)?;
        Ok(database)
    }

    /// What was opened before and is not used any more.
    pub(crate) fn reopen(&self) -> Result<Database, Failure> {
        let storage = Storage::new((self.open)().map_err(redb::StorageError::Io)?, self.config.max_bytes);
        Ok(self.builder().create_with_backend(storage)?)
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.config.cache);
        builder
    }

    fn refuse_foreign(&self) -> Result<(), StoreError> {
        let unreadable = |e| error::io(format!("{} cannot be opened", self.name), e);
        let inner = (self.open)().map_err(unreadable)?;
        let look = Look::new(inner).map_err(unreadable)?;
        if redb::StorageBackend::len(&look).map_err(unreadable)? == 0 {
            return Ok(());
        }
        let mut builder = self.builder();
        builder.set_check_integrity_on_open(self.config.verify);
        let database = builder.create_with_backend(look).map_err(|e| Failure::from(e).at(&self.name))?;
        let newest = schema::newest(MIGRATIONS);
        match schema::kind(&database).map_err(|e| e.at(&self.name))? {
            Kind::Foreign => {
                let detail = format!("{} belongs to another application: choose another file", self.name);
                Err(StoreError::new(StoreErrorKind::Corrupt, NAME, detail))
            }
            Kind::Store(version) if version > newest => {
                let name = &self.name;
                let detail =
                    format!("{name} has version {version} and this program knows {newest}: use the newer program");
                Err(StoreError::new(StoreErrorKind::NewerSchema, NAME, detail))
            }
            Kind::Store(_) | Kind::Empty => Ok(()),
        }
    }
}

/// Makes the file unless it is there, whole or not at all: under another name, which it loses when
/// everything of it is on the disk.
pub(crate) fn create(path: &Path, config: &RedbConfig) -> Result<(), StoreError> {
    let failed = |e| error::io(format!("{} cannot be made", path.display()), e);
    match fs::metadata(path) {
        Ok(file) if file.len() > 0 => return Ok(()),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let new = beside(path, ".new");
    let made = File::create(&new).map_err(failed).and_then(|file| {
        let name = path.display().to_string();
        let medium = Medium { name, open: storage::of_file(new.clone()), config: config.clone() };
        let database = medium.open()?;
        database.close().map_err(|e| Failure::from(e).at(&medium.name))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&new, path).map_err(failed)?;
        sync_directory(path).map_err(failed)
    });
    if made.is_err() {
        // The next attempt begins anew.
        let _ = fs::remove_file(&new);
    }
    made
}

/// A name is on the disk when its directory is.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if directory.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
