//! What a disk holds after a power cut, from what a process asked of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::history::{Event, Flags};
use super::place::broken;
use super::{Leave, Subject};
use crate::promise::Broken;
use crate::store::random::Random;

/// A disk writes sectors whole. In bytes.
const SECTOR: usize = 512;

/// A change of what a file holds.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, data: Arc<[u8]> },
    Truncate { length: usize },
    Zero { at: usize, length: usize, extend: bool, clear: bool },
}

/// A change of a directory.
#[derive(Clone, Debug)]
enum Naming {
    Link { path: PathBuf, file: usize },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

/// A file, whatever its names are: what is certainly on the disk, and what may be.
#[derive(Debug, Default)]
struct File {
    directory: bool,
    durable: Vec<u8>,
    /// With the time of each.
    pending: Vec<(u64, Change)>,
    length: usize,
}

#[derive(Clone, Debug)]
struct Handle {
    file: usize,
    path: PathBuf,
    position: usize,
    flags: Flags,
}

type Names = BTreeMap<PathBuf, usize>;

/// The directory of a store as the disk knows it.
pub(super) struct Disk<'s> {
    subject: &'s Subject,
    root: PathBuf,
    time: u64,
    files: Vec<File>,
    /// As the process sees them, as they certainly are, and what lies between.
    names: Names,
    durable_names: Names,
    pending_names: Vec<(u64, Naming)>,
    handles: BTreeMap<u64, Handle>,
    /// By thread: when its sync began, and of what.
    syncing: BTreeMap<u64, (u64, Option<Handle>)>,
}

fn length(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl<'s> Disk<'s> {
    /// An empty directory.
    pub(super) fn new(subject: &'s Subject, root: PathBuf) -> Self {
        let names = Names::from([(root.clone(), 0)]);
        Self {
            subject,
            root,
            time: 0,
            files: vec![File { directory: true, ..File::default() }],
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            handles: BTreeMap::new(),
            syncing: BTreeMap::new(),
        }
    }

    /// Whether a handle is of a file of the store.
    pub(super) fn has(&self, fd: u64) -> Option<&Path> {
        self.handles.get(&fd).map(|handle| &*handle.path)
    }

    fn create(&mut self, path: &Path, directory: bool) -> usize {
        self.files.push(File { directory, ..File::default() });
        let file = self.files.len() - 1;
        self.name(Naming::Link { path: path.to_owned(), file });
        file
    }

    fn name(&mut self, naming: Naming) {
        rename(&mut self.names, &naming);
        self.pending_names.push((self.time, naming));
    }

    fn change(&mut self, fd: u64, change: Change) {
        let Some(file) = self.handles.get(&fd).and_then(|handle| self.files.get_mut(handle.file)) else { return };
        file.length = match &change {
            Change::Write { at, data } => file.length.max(at + data.len()),
            Change::Truncate { length } => *length,
            Change::Zero { at, length, extend: true, .. } => file.length.max(at + length),
            Change::Zero { .. } => file.length,
        };
        file.pending.push((self.time, change));
    }

    /// # Errors
    /// The event cannot be played.
    pub(super) fn play(&mut self, event: &Event) -> Result<(), Broken> {
        self.time += 1;
        match event {
            Event::Opened { fd, path, flags } => {
                self.handles.remove(fd);
                if path.starts_with(&self.root) {
                    let file = self.names.get(path).copied().unwrap_or_else(|| self.create(path, false));
                    self.handles.insert(*fd, Handle { file, path: path.clone(), position: 0, flags: *flags });
                    if flags.truncate && self.files[file].length > 0 {
                        self.change(*fd, Change::Truncate { length: 0 });
                    }
                }
            }
            Event::Closed { fd } => drop(self.handles.remove(fd)),
            Event::Duplicated { from, to } => {
                let handle = self.handles.get(from).cloned();
                self.handles.remove(to);
                self.handles.extend(handle.map(|handle| (*to, handle)));
            }
            Event::Write { fd, at, data } => {
                let Some(handle) = self.handles.get_mut(fd) else { return Ok(()) };
                if handle.flags.append {
                    handle.position = self.files[handle.file].length;
                }
                let at = at.map_or(handle.position, length);
                self.change(*fd, Change::Write { at, data: Arc::clone(data) });
            }
            Event::Wrote { fd, moved, sequential } => {
                let Some(handle) = self.handles.get_mut(fd) else { return Ok(()) };
                if *sequential {
                    handle.position += length(*moved);
                }
                if handle.flags.sync {
                    let handle = handle.clone();
                    self.synced(self.time, Some(&handle));
                }
            }
            Event::Read { fd, moved } => {
                if let Some(handle) = self.handles.get_mut(fd) {
                    handle.position += length(*moved);
                }
            }
            Event::Sought { fd, to } => {
                if let Some(handle) = self.handles.get_mut(fd) {
                    handle.position = length(*to);
                }
            }
            Event::Truncate { fd, length: to } => self.change(*fd, Change::Truncate { length: length(*to) }),
            Event::Zero { fd, at, length: n, extend, clear } => {
                self.change(*fd, Change::Zero { at: length(*at), length: length(*n), extend: *extend, clear: *clear });
            }
            Event::Renamed { from, to } if self.names.contains_key(from) => {
                self.name(Naming::Rename { from: from.clone(), to: to.clone() });
            }
            Event::Linked { from, to } => {
                if let Some(file) = self.names.get(from).copied() {
                    self.name(Naming::Link { path: to.clone(), file });
                }
            }
            Event::Unlinked { path } if self.names.contains_key(path) => {
                self.name(Naming::Unlink { path: path.clone() });
            }
            Event::MadeDirectory { path } if path.starts_with(&self.root) => drop(self.create(path, true)),
            Event::SyncBegins { thread, fd } => match fd {
                None => drop(self.syncing.insert(*thread, (self.time, None))),
                Some(fd) => {
                    if let Some(handle) = self.handles.get(fd).cloned() {
                        self.syncing.insert(*thread, (self.time, Some(handle)));
                    }
                }
            },
            Event::SyncEnds { thread } => {
                if let Some((began, what)) = self.syncing.remove(thread) {
                    self.synced(began, what.as_ref());
                }
            }
            Event::Mapped { fd } => {
                let ours = self.handles.get(fd).filter(|handle| !self.subject.is_scratch(&handle.path));
                if let Some(handle) = ours {
                    let name = handle.path.display();
                    return Err(Broken::new(format!(
                        "{name} is mapped writable and shared: what is written through the mapping no call shows, so \
                         a power cut cannot be played; name it as scratch if it holds nothing across a restart"
                    )));
                }
            }
            Event::Unfollowed { fd, call } => {
                if fd.is_none_or(|fd| self.handles.contains_key(&fd)) {
                    return Err(Broken::new(format!("{call} cannot be played, so a power cut cannot be either")));
                }
            }
            Event::Renamed { .. } | Event::Unlinked { .. } | Event::MadeDirectory { .. } | Event::Acknowledged(_) => {}
        }
        Ok(())
    }

    /// What was done before `began` is on the disk: of one file or directory, or of all.
    fn synced(&mut self, began: u64, what: Option<&Handle>) {
        if self.subject.leave == Leave::Syncs {
            return;
        }
        let chosen = |n: usize| what.is_none_or(|handle| handle.file == n);
        for file in self.files.iter_mut().enumerate().filter(|(n, _)| chosen(*n)).map(|(_, file)| file) {
            let done = file.pending.partition_point(|(time, _)| *time < began);
            for (_, change) in file.pending.drain(..done) {
                apply(&mut file.durable, &change);
            }
        }
        let directories = self.subject.leave != Leave::DirectorySyncs;
        // The name that a file was made with comes to the disk with it, after what had that name before.
        let own = self.pending_names.iter().rev().scan(Vec::new(), |own: &mut Vec<PathBuf>, (time, naming)| {
            if let Naming::Link { path, file } = naming
                && *time < began
                && chosen(*file)
            {
                own.push(path.clone());
            }
            Some(paths(naming).any(|path| own.iter().any(|own| own == path)))
        });
        let mut own = own.collect::<Vec<_>>().into_iter().rev();
        let (files, names) = (&self.files, &mut self.durable_names);
        self.pending_names.retain(|(time, naming)| {
            let of_directory = |handle: &Handle| {
                files[handle.file].directory && paths(naming).any(|path| path.parent() == Some(&*handle.path))
            };
            let with_directory = *time < began && directories && what.is_none_or(of_directory);
            let done = own.next() == Some(true) || with_directory;
            if done {
                rename(names, naming);
            }
            !done
        });
    }

    /// The files as the next start finds them.
    pub(super) fn cut(&self, random: &mut Random, into: &Path) -> Result<(), Broken> {
        let manner = random.below(5);
        // Directories are journals: their changes come in order.
        let names_kept = match manner {
            0 => 0,
            1 => self.pending_names.len(),
            _ => below(random, self.pending_names.len() + 1),
        };
        let mut names = self.durable_names.clone();
        self.pending_names[..names_kept].iter().for_each(|(_, naming)| rename(&mut names, naming));
        let contents: Vec<_> = self.files.iter().map(|file| remains(file, manner, random)).collect();
        let failed = |e| broken("the disk after a cut cannot be written", e);
        for (path, file) in names {
            let Ok(below_root) = path.strip_prefix(&self.root) else { continue };
            let to = into.join(below_root);
            if self.files[file].directory {
                std::fs::create_dir_all(to).map_err(failed)?;
            } else if !self.subject.is_scratch(&path) {
                std::fs::write(to, &contents[file]).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    length(random.next() % bound.max(1) as u64)
}

/// What is left of a file: none, all, a beginning, or any part of what was not synced.
fn remains(file: &File, manner: u8, random: &mut Random) -> Vec<u8> {
    let mut content = file.durable.clone();
    let kept = match manner {
        0 => 0,
        2 => below(random, file.pending.len() + 1),
        _ => file.pending.len(),
    };
    for (n, (_, change)) in file.pending[..kept].iter().enumerate() {
        let last_of_beginning = manner == 2 && n + 1 == kept;
        match change {
            Change::Write { at, data } if last_of_beginning || (manner > 2 && random.below(4) == 0) => {
                let torn = torn(*at, data.len(), random);
                apply(&mut content, &Change::Write { at: *at, data: data[..torn].into() });
            }
            _ if manner > 2 && random.below(2) == 0 => {}
            change => apply(&mut content, change),
        }
    }
    content
}

/// How much of a write arrived: up to the end of some sector.
fn torn(at: usize, written: usize, random: &mut Random) -> usize {
    let sectors = (at + written).div_ceil(SECTOR) - at / SECTOR;
    ((at / SECTOR + below(random, sectors + 1)) * SECTOR).saturating_sub(at).min(written)
}

fn paths(naming: &Naming) -> impl Iterator<Item = &PathBuf> {
    let (one, other) = match naming {
        Naming::Link { path, .. } | Naming::Unlink { path } => (path, None),
        Naming::Rename { from, to } => (from, Some(to)),
    };
    std::iter::once(one).chain(other)
}

fn rename(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Link { path, file } => drop(names.insert(path.clone(), *file)),
        Naming::Unlink { path } => drop(names.remove(path)),
        Naming::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    let reach = |content: &mut Vec<u8>, end: usize| {
        if content.len() < end {
            content.resize(end, 0);
        }
    };
    match change {
        Change::Truncate { length } => content.resize(*length, 0),
        Change::Write { at, data } => {
            reach(content, at + data.len());
            content[*at..at + data.len()].copy_from_slice(data);
        }
        Change::Zero { at, length, extend, clear } => {
            if *extend {
                reach(content, at + length);
            }
            let end = content.len().min(at + length);
            if *clear && *at < end {
                content[*at..end].fill(0);
            }
        }
    }
}
