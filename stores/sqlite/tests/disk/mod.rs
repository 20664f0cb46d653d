//! What a disk holds after a power cut, from what a real process asked of it.
//!
//! `strace` writes down every call of a process that changes the files of the store, every fsync, and
//! every acknowledgement. A [`Disk`] plays them and keeps what was not fsynced apart; a cut then keeps
//! none of it, all of it, or any part of it, with writes torn at sectors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::{ACK, Random};

/// One thing that the process did, in order.
#[derive(Debug)]
pub(crate) enum Event {
    Open {
        file: u64,
        path: PathBuf,
    },
    Close {
        file: u64,
    },
    Write {
        file: u64,
        at: usize,
        data: Vec<u8>,
    },
    Truncate {
        file: u64,
        length: usize,
    },
    Unlink {
        path: PathBuf,
    },
    /// What was written before `SyncBegins` is on the disk after `SyncEnds`.
    SyncBegins {
        file: u64,
    },
    SyncEnds {
        file: u64,
    },
    Acknowledged(u64),
}

/// The calls that [`events`] reads.
pub(crate) const CALLS: &str = "trace=openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,close";

/// Reads the output of `strace -f -xx -e CALLS`.
pub(crate) fn events(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begins(begin, &mut events);
            begun.insert(thread, begin);
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let begin = begun.remove(thread).unwrap();
            let (_, rest) = rest.split_once(" resumed>").unwrap();
            ends(&format!("{begin}{rest}"), &mut events);
        } else if call.contains(") ") {
            begins(call, &mut events);
            ends(call, &mut events);
        }
    }
    events
}

fn parts(call: &str) -> (&str, Vec<&str>) {
    let (name, rest) = call.split_once('(').unwrap_or((call, ""));
    let arguments = rest.rsplit_once(") ").map_or(rest, |(arguments, _)| arguments);
    (name, arguments.trim_end_matches(')').split(", ").collect())
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

/// What holds from the moment of the call.
fn begins(call: &str, events: &mut Vec<Event>) {
    let (name, arguments) = parts(call);
    match name {
        "write" if arguments[0] == "1" => {
            let said = String::from_utf8(unhex(arguments[1])).unwrap();
            events.extend(said.trim().strip_prefix(ACK).map(|n| Event::Acknowledged(number(n))));
        }
        "pwrite64" => {
            let data = unhex(arguments[1]);
            assert_eq!(number(arguments[2]), data.len() as u64, "strace cut the data off");
            events.push(Event::Write { file: number(arguments[0]), at: number(arguments[3]) as usize, data });
        }
        "ftruncate" => {
            events.push(Event::Truncate { file: number(arguments[0]), length: number(arguments[1]) as usize });
        }
        "unlink" => events.push(Event::Unlink { path: path(arguments[0]) }),
        "fsync" | "fdatasync" => events.push(Event::SyncBegins { file: number(arguments[0]) }),
        _ => {}
    }
}

/// What holds only once the call has returned.
fn ends(call: &str, events: &mut Vec<Event>) {
    let (name, arguments) = parts(call);
    let Some((_, result)) = call.rsplit_once(" = ") else { return };
    let Ok(result) = result.split(' ').next().unwrap().parse::<u64>() else { return };
    match name {
        "openat" => events.push(Event::Open { file: result, path: path(arguments[1]) }),
        "close" => events.push(Event::Close { file: number(arguments[0]) }),
        "fsync" | "fdatasync" => events.push(Event::SyncEnds { file: number(arguments[0]) }),
        _ => {}
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().trim_matches('"').split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

fn path(text: &str) -> PathBuf {
    String::from_utf8(unhex(text)).unwrap().into()
}

#[derive(Clone, Debug)]
enum Change {
    Create,
    Unlink,
    Write { at: usize, data: Vec<u8> },
    Truncate { length: usize },
}

/// A file: what is certainly on the disk, and what may be.
#[derive(Clone, Debug, Default)]
struct File {
    durable: Option<Vec<u8>>,
    pending: Vec<Change>,
    syncing: usize,
}

/// The directory of a store as the disk knows it.
pub(crate) struct Disk {
    directory: PathBuf,
    /// Lies about fsyncs of names that end so.
    forgets: Option<&'static str>,
    files: BTreeMap<PathBuf, File>,
    open: BTreeMap<u64, PathBuf>,
}

impl Disk {
    pub(crate) fn new(store: &Path, forgets: Option<&'static str>) -> Self {
        let directory = store.parent().unwrap().to_owned();
        Self { directory, forgets, files: BTreeMap::new(), open: BTreeMap::new() }
    }

    fn is_ours(&self, path: &Path) -> bool {
        let name = path.to_string_lossy();
        // The index of the log lives in memory and is made anew; the lock holds nothing.
        path.parent() == Some(&*self.directory) && !name.ends_with("-shm") && !name.ends_with(".lock")
    }

    fn file(&mut self, file: u64) -> Option<&mut File> {
        let path = self.open.get(&file)?;
        self.files.get_mut(path)
    }

    pub(crate) fn play(&mut self, event: &Event) {
        match event {
            Event::Open { file, path } => {
                self.open.insert(*file, path.clone());
                if self.is_ours(path) && path.extension().is_some() {
                    let known = self.files.entry(path.clone()).or_default();
                    if !exists(known) {
                        known.pending.push(Change::Create);
                    }
                }
            }
            Event::Close { file } => drop(self.open.remove(file)),
            Event::Write { file, at, data } => self.change(*file, Change::Write { at: *at, data: data.clone() }),
            Event::Truncate { file, length } => self.change(*file, Change::Truncate { length: *length }),
            Event::Unlink { path } => {
                if let Some(file) = self.files.get_mut(path) {
                    file.pending.push(Change::Unlink);
                }
            }
            Event::SyncBegins { file } => {
                if let Some(file) = self.file(*file) {
                    file.syncing = file.pending.len();
                }
            }
            Event::SyncEnds { file } => self.synced(*file),
            Event::Acknowledged(_) => {}
        }
    }

    fn change(&mut self, file: u64, change: Change) {
        if let Some(file) = self.file(file) {
            file.pending.push(change);
        }
    }

    fn synced(&mut self, file: u64) {
        let Some(path) = self.open.get(&file).cloned() else { return };
        if path == self.directory {
            self.files.values_mut().for_each(names_are_durable);
        } else if let Some(file) = self.files.get_mut(&path)
            && !self.forgets.is_some_and(|suffix| path.to_string_lossy().ends_with(suffix))
        {
            for change in file.pending.drain(..file.syncing) {
                apply(&mut file.durable, &change);
            }
        }
    }

    /// The files as the next start finds them.
    pub(crate) fn cut(&self, random: &mut Random, into: &Path) {
        let manner = random.below(4);
        for (path, file) in &self.files {
            let mut content = file.durable.clone();
            for change in &file.pending {
                match manner {
                    0 => break,
                    1 => apply(&mut content, change),
                    _ => match change {
                        // Names change in order.
                        Change::Create | Change::Unlink if random.below(2) == 0 => break,
                        Change::Write { at, data } if random.below(4) == 0 => {
                            const SECTOR: usize = 512;
                            let sectors = random.below((data.len() / SECTOR) as u64 + 1) as usize;
                            let torn = data[..sectors * SECTOR].to_vec();
                            apply(&mut content, &Change::Write { at: *at, data: torn });
                        }
                        Change::Write { .. } | Change::Truncate { .. } if random.below(2) == 0 => {}
                        change => apply(&mut content, change),
                    },
                }
            }
            if let Some(content) = content {
                std::fs::write(into.join(path.file_name().unwrap()), content).unwrap();
            }
        }
    }
}

fn exists(file: &File) -> bool {
    let last = file.pending.iter().rfind(|change| matches!(change, Change::Create | Change::Unlink));
    last.map_or(file.durable.is_some(), |change| matches!(change, Change::Create))
}

/// The directory was fsynced: the names are on the disk, what stands in the files may not be.
fn names_are_durable(file: &mut File) {
    if let Some(unlinked) = file.pending.iter().rposition(|change| matches!(change, Change::Unlink)) {
        file.pending.drain(..=unlinked);
        file.durable = None;
    }
    if let Some(created) = file.pending.iter().position(|change| matches!(change, Change::Create)) {
        file.pending.remove(created);
        file.durable = Some(Vec::new());
    }
}

fn apply(content: &mut Option<Vec<u8>>, change: &Change) {
    match (change, content) {
        (Change::Create, content) => *content = Some(Vec::new()),
        (Change::Unlink, content) => *content = None,
        // The name did not come to the disk.
        (_, None) => {}
        (Change::Truncate { length }, Some(content)) => content.resize(*length, 0),
        (Change::Write { at, data }, Some(content)) => {
            if content.len() < at + data.len() {
                content.resize(at + data.len(), 0);
            }
            content[*at..at + data.len()].copy_from_slice(data);
        }
    }
}
