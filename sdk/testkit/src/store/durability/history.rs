//! What a process did to files, from its system calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::child::ACK;
use super::strace::{Call, Moment, bytes, moments};

/// The calls that [`events`] understands, and those that it knows it cannot follow.
pub(super) const CALLS: &str = "trace=openat,open,creat,openat2,close,dup,dup2,dup3,fcntl,lseek,\
    read,readv,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,\
    rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,\
    fsync,fdatasync,sync,syncfs,mmap,copy_file_range,sendfile,splice,io_uring_setup";

/// Arguments of these are not followed into memory: what is read would make the record large.
pub(super) const RAW: &str = "raw=read,readv";

/// How a file was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) truncate: bool,
    pub(super) append: bool,
    /// What is written is synced.
    pub(super) sync: bool,
}

/// One thing that the process did, in order. Files are named by their descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Opened {
        fd: u64,
        path: PathBuf,
        flags: Flags,
    },
    Closed {
        fd: u64,
    },
    Duplicated {
        from: u64,
        to: u64,
    },
    /// At a place, or where the descriptor stands.
    Write {
        fd: u64,
        at: Option<u64>,
        data: Arc<[u8]>,
    },
    Wrote {
        fd: u64,
        moved: u64,
        sequential: bool,
    },
    Read {
        fd: u64,
        moved: u64,
    },
    Sought {
        fd: u64,
        to: u64,
    },
    Truncate {
        fd: u64,
        length: u64,
    },
    /// Zeros, and at least so long.
    Zero {
        fd: u64,
        at: u64,
        length: u64,
        extend: bool,
        clear: bool,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    Linked {
        from: PathBuf,
        to: PathBuf,
    },
    Unlinked {
        path: PathBuf,
    },
    MadeDirectory {
        path: PathBuf,
    },
    /// What was done before `SyncBegins` is on the disk after `SyncEnds` of the same thread.
    SyncBegins {
        thread: u64,
        fd: Option<u64>,
    },
    SyncEnds {
        thread: u64,
    },
    /// From now on the file can change without a call.
    Mapped {
        fd: u64,
    },
    /// A call changes the file in a way that is not played.
    Unfollowed {
        fd: Option<u64>,
        call: String,
    },
    Acknowledged(u64),
}

/// Reads a trace of [`CALLS`].
pub(super) fn events(trace: &str) -> Vec<Event> {
    let mut reader = Reader { directories: BTreeMap::new(), events: Vec::new() };
    for moment in moments(trace) {
        match moment {
            Moment::Begins(call) => reader.begins(&call),
            Moment::Returns(call, result) => reader.returns(&call, result),
        }
    }
    reader.events
}

struct Reader {
    /// Paths of descriptors, for calls that name a file relative to one.
    directories: BTreeMap<u64, PathBuf>,
    events: Vec<Event>,
}

fn number(call: &Call<'_>, n: usize) -> Option<u64> {
    let text = call.arguments.get(n)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn text<'t>(call: &Call<'t>, n: usize) -> &'t str {
    call.arguments.get(n).copied().unwrap_or_default()
}

impl Reader {
    fn path(&self, directory: Option<usize>, call: &Call<'_>, n: usize) -> PathBuf {
        let path = bytes(text(call, n)).unwrap_or_default();
        let path = PathBuf::from(String::from_utf8_lossy(&path).into_owned());
        let at = directory.and_then(|n| number(call, n)).and_then(|fd| self.directories.get(&fd));
        at.map_or_else(|| path.clone(), |at| at.join(&path))
    }

    fn unfollowed(&mut self, fd: Option<u64>, call: &Call<'_>) {
        self.events.push(Event::Unfollowed { fd, call: call.name.to_owned() });
    }

    /// What may hold from the moment of the call.
    fn begins(&mut self, call: &Call<'_>) {
        let first = number(call, 0);
        let event = match (call.name, first) {
            ("write", Some(1)) => {
                let said = bytes(text(call, 1)).unwrap_or_default();
                let said = String::from_utf8_lossy(&said).into_owned();
                said.trim().rsplit_once(ACK).and_then(|(_, n)| n.parse().ok()).map(Event::Acknowledged)
            }
            ("write" | "writev" | "pwrite64" | "pwritev" | "pwritev2", Some(fd)) => {
                let at = if call.name.starts_with('p') { number(call, 3) } else { None };
                match bytes(text(call, 1)) {
                    Some(data) => Some(Event::Write { fd, at, data: data.into() }),
                    None => return self.unfollowed(Some(fd), call),
                }
            }
            ("ftruncate", Some(fd)) => number(call, 1).map(|length| Event::Truncate { fd, length }),
            ("fallocate", Some(fd)) => {
                let (mode, at, length) = (text(call, 1), number(call, 2), number(call, 3));
                let known = ["0", "FALLOC_FL_KEEP_SIZE", "FALLOC_FL_PUNCH_HOLE", "FALLOC_FL_ZERO_RANGE"];
                if !mode.split('|').all(|flag| known.contains(&flag)) {
                    return self.unfollowed(Some(fd), call);
                }
                let (extend, clear) = (!mode.contains("KEEP_SIZE"), mode.contains("PUNCH") || mode.contains("ZERO"));
                at.zip(length).map(|(at, length)| Event::Zero { fd, at, length, extend, clear })
            }
            ("fsync" | "fdatasync", Some(_)) => Some(Event::SyncBegins { thread: thread(call), fd: first }),
            ("sync" | "syncfs", _) => Some(Event::SyncBegins { thread: thread(call), fd: None }),
            ("mmap", _) if text(call, 2).contains("PROT_WRITE") && text(call, 3).contains("MAP_SHARED") => {
                number(call, 4).map(|fd| Event::Mapped { fd })
            }
            ("truncate", _) => return self.unfollowed(None, call),
            ("copy_file_range" | "splice", _) => return self.unfollowed(number(call, 2), call),
            ("sendfile", _) => return self.unfollowed(first, call),
            _ => None,
        };
        self.events.extend(event);
    }

    /// What holds only once the call has returned.
    fn returns(&mut self, call: &Call<'_>, result: u64) {
        let first = number(call, 0);
        let event = match (call.name, first) {
            ("openat" | "openat2", _) => Some(self.opened(result, self.path(Some(0), call, 1), text(call, 2))),
            ("open", _) => Some(self.opened(result, self.path(None, call, 0), text(call, 1))),
            ("creat", _) => Some(self.opened(result, self.path(None, call, 0), "O_TRUNC")),
            ("close", Some(fd)) => Some(Event::Closed { fd }),
            ("dup" | "dup2" | "dup3", Some(from)) => Some(Event::Duplicated { from, to: result }),
            ("fcntl", Some(from)) if text(call, 1).starts_with("F_DUPFD") => {
                Some(Event::Duplicated { from, to: result })
            }
            ("lseek", Some(fd)) => Some(Event::Sought { fd, to: result }),
            ("read" | "readv", Some(fd)) => Some(Event::Read { fd, moved: result }),
            ("write" | "writev", Some(fd)) => Some(Event::Wrote { fd, moved: result, sequential: true }),
            ("pwrite64" | "pwritev" | "pwritev2", Some(fd)) => {
                Some(Event::Wrote { fd, moved: result, sequential: false })
            }
            ("rename", _) => Some(Event::Renamed { from: self.path(None, call, 0), to: self.path(None, call, 1) }),
            ("renameat" | "renameat2", _) => {
                Some(Event::Renamed { from: self.path(Some(0), call, 1), to: self.path(Some(2), call, 3) })
            }
            ("link", _) => Some(Event::Linked { from: self.path(None, call, 0), to: self.path(None, call, 1) }),
            ("linkat", _) => Some(Event::Linked { from: self.path(Some(0), call, 1), to: self.path(Some(2), call, 3) }),
            ("unlink" | "rmdir", _) => Some(Event::Unlinked { path: self.path(None, call, 0) }),
            ("unlinkat", _) => Some(Event::Unlinked { path: self.path(Some(0), call, 1) }),
            ("mkdir", _) => Some(Event::MadeDirectory { path: self.path(None, call, 0) }),
            ("mkdirat", _) => Some(Event::MadeDirectory { path: self.path(Some(0), call, 1) }),
            ("fsync" | "fdatasync" | "sync" | "syncfs", _) => Some(Event::SyncEnds { thread: thread(call) }),
            ("io_uring_setup", _) => return self.unfollowed(None, call),
            _ => None,
        };
        self.events.extend(event);
    }

    fn opened(&mut self, fd: u64, path: PathBuf, flags: &str) -> Event {
        self.directories.insert(fd, path.clone());
        let has = |flag| flags.split(['|', ' ', ',', '}']).any(|f| f.trim_start_matches("flags=") == flag);
        let sync = has("O_SYNC") || has("O_DSYNC");
        Event::Opened { fd, path, flags: Flags { truncate: has("O_TRUNC"), append: has("O_APPEND"), sync } }
    }
}

fn thread(call: &Call<'_>) -> u64 {
    call.thread.parse().unwrap_or(0)
}

/// Every path below `root` that the process named.
pub(super) fn paths(events: &[Event], root: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = events
        .iter()
        .flat_map(|event| match event {
            Event::Opened { path, .. } | Event::Unlinked { path } | Event::MadeDirectory { path } => vec![path],
            Event::Renamed { from, to } | Event::Linked { from, to } => vec![from, to],
            _ => vec![],
        })
        .filter(|path| path.starts_with(root))
        .cloned()
        .collect();
    paths.sort();
    paths.dedup();
    paths
}
