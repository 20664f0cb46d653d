use std::time::Duration;

/// The numbers of a [`RedbStore`](crate::RedbStore).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedbConfig {
    /// How long a relaxed batch may wait for a durable commit before it gets one of its own. 1 s.
    ///
    /// A relaxed batch is committed with `Durability::None`: every reader sees it at once, and nothing
    /// is written. The next durable commit writes it together with everything before it, and fsyncs
    /// once. So a relaxed batch costs no flush of its own and is never lost alone.
    pub relaxed_flush: Duration,
    /// Relaxed writes that wait for a durable commit before they get one of their own. 8,192.
    pub relaxed_writes: usize,
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
    /// Memory for pages of the file, in bytes. 64 MiB.
    pub cache: usize,
    /// Verify the checksums of the whole file when it is opened, so that a damaged one is never written.
    /// On: it reads every page, about 1 ms for each MiB. Without it only a file that was not closed is
    /// verified.
    pub verify: bool,
    /// The most bytes the file may have; beyond that `apply` fails with `DiskFull`. No limit.
    pub max_bytes: Option<u64>,
    /// How long a full disk is left alone before relaxed writes are saved again. 10 s: the file is
    /// opened anew for each attempt that fails.
    pub retry_full: Duration,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self {
            relaxed_flush: Duration::from_secs(1),
            relaxed_writes: 8192,
            queue: 8192,
            loads: 256,
            inline_rows: 64,
            cache: 64 * 1024 * 1024,
            verify: true,
            max_bytes: None,
            retry_full: Duration::from_secs(10),
        }
    }
}
