use std::time::Duration;

/// The numbers of a [`SqliteStore`](crate::SqliteStore).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// How long a relaxed batch may wait for a durable commit before it gets one of its own. 1 s.
    ///
    /// A relaxed batch is committed with `synchronous=NORMAL`: its pages are appended to the
    /// write-ahead log, where every reader sees them, and nothing is fsynced. A durable batch is
    /// committed with `FULL`, which fsyncs the *whole* log file and with it every relaxed commit that
    /// stands before it. So a relaxed batch costs no flush of its own and is never lost alone:
    /// recovery reads the log from its start and stops at the first frame whose checksum is wrong.
    pub relaxed_flush: Duration,
    /// Writes that wait for the writer before `apply` itself waits. 8,192.
    ///
    /// Calls that wait go on in the order in which they came. So a future of `apply` that was polled
    /// once must be polled on, or dropped: the ones behind it wait for it.
    pub queue: usize,
    /// Loads that wait for the reader thread before `load` itself waits. 256.
    pub loads: usize,
    /// A page of at most so many rows is read by the caller of `load` itself, a larger one by the reader
    /// thread. 64: handing a page to another thread and back takes longer than reading it. Zero for a
    /// disk on which reading a few pages is no matter of microseconds.
    pub inline_rows: usize,
    /// How long a lock held by a foreign program (the `sqlite3` shell, a backup) is waited for. 5 s.
    pub busy_timeout: Duration,
    /// Pages in the write-ahead log that are not in the database yet before they are copied. 1,000,
    /// which is 4 MiB.
    pub checkpoint_pages: u32,
    /// The size to which an outgrown log is cut, in bytes. 16 MiB: more than the log holds between two
    /// checkpoints, because a commit that overwrites the file is much cheaper than one that makes it
    /// grow.
    pub journal_size_limit: u64,
    /// Verify the whole file when it is opened, so that a damaged one is never written. On: it reads
    /// every page, about 1 ms for each MiB. Without it damage is reported where it is met.
    pub verify: bool,
    /// The most pages (4 KiB) the file may have; beyond that `apply` fails with `DiskFull`. No limit.
    pub max_pages: Option<u32>,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            relaxed_flush: Duration::from_secs(1),
            queue: 8192,
            loads: 256,
            inline_rows: 64,
            busy_timeout: Duration::from_secs(5),
            checkpoint_pages: 1000,
            journal_size_limit: 16 * 1024 * 1024,
            verify: true,
            max_pages: None,
        }
    }
}
