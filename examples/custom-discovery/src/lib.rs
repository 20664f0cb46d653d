//! A discovery step of your own, from outside the SDK: members who share a folder find each other by it.
//! Whatever keeps the folder in sync will do (Syncthing, a cloud drive, a memory stick), and there is no
//! server of yours.
//!
//! `sdk/docs/writing-a-step.md` goes through it line by line.

use std::fs::{File, create_dir_all, read_dir, remove_file, rename, write};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use byway_api::{
    Announcement, DiscoveryStep, Lookup, Meter, NetworkId, PeerId, Route, Sightings, SignalAddress, StepError,
    StepErrorKind, UserId, async_trait,
};

/// One file per device: its name is the device; its text the user, the device's addresses, an empty line;
/// the rest is the device's signed record.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    folder: PathBuf,
    me: UserId,
}

/// More files are not read, and of each not more bytes.
const FILES: usize = 1_000;
const BYTES: u64 = 8 * 1024;

impl SharedFolder {
    /// A folder on this machine's disk, and who announces in it. It may come later.
    pub fn new(folder: impl Into<PathBuf>, me: UserId) -> Self {
        Self { folder: folder.into(), me }
    }

    fn of(&self, network: &NetworkId) -> PathBuf {
        self.folder.join(format!("{network}.members"))
    }

    /// What the folder says now. No folder is like an empty one: nobody has announced yet.
    fn routes(&self, network: &NetworkId) -> impl Iterator<Item = (UserId, Route)> + use<> {
        let files = read_dir(self.of(network)).into_iter().flatten().flatten();
        files.take(FILES).filter_map(|file| read(&file.path())).flatten()
    }
}

/// The routes in a file; `None` if it is something else, or half synced: one bad file hides nobody else.
fn read(path: &Path) -> Option<Vec<(UserId, Route)>> {
    let device: PeerId = path.file_name()?.to_str()?.parse().ok()?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BYTES).read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(2).position(|two| two == b"\n\n")?;
    let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.lines();
    let (user, record) = (UserId::new(lines.next()?).ok()?, byway_api::Bytes::copy_from_slice(&bytes[end + 2..]));
    let own = |address: &SignalAddress| address.socket_parts().map_or(!address.is_signalling(), |(_, to)| to == device);
    let addresses = lines.filter_map(|line| line.parse().ok()).filter(own);
    Some(addresses.map(|address| (user.clone(), Route::new(device, address).with_record(record.clone()))).collect())
}

#[async_trait]
impl DiscoveryStep for SharedFolder {
    fn name(&self) -> &'static str {
        "shared-folder"
    }

    async fn find(&self, lookup: &dyn Lookup) -> Result<(), StepError> {
        let query = lookup.query();
        let mut theirs = self.routes(&query.network).filter(|(user, _)| *user == query.user);
        // ends at the first Break
        let _ = theirs.try_for_each(|(_, route)| lookup.found(route));
        Ok(())
    }

    async fn browse(&self, sightings: &dyn Sightings) -> Result<(), StepError> {
        let _ = self.routes(sightings.network()).try_for_each(|(_, route)| sightings.seen(route));
        Ok(())
    }

    async fn announce(&self, me: &Announcement, _: &dyn Meter) -> Result<(), StepError> {
        let folder = self.of(&me.network);
        let (file, new) = (folder.join(me.peer.to_string()), folder.join(format!("{}.new", me.peer)));
        let done = if me.leaving {
            remove_file(file).or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
        } else {
            let addresses: String = me.addresses.iter().map(|address| format!("{address}\n")).collect();
            let text = [format!("{}\n{addresses}\n", self.me).as_bytes(), &me.record].concat();
            // under another name first, so that nobody reads half of it
            create_dir_all(folder).and_then(|()| write(&new, text)).and_then(|()| rename(new, file))
        };
        done.map_err(|e| StepError::new(StepErrorKind::LocalFault, self.name(), "cannot write").with_source(e))
    }
}
