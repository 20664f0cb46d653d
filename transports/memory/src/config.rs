/// The bounds of a [`MemoryNetwork`](crate::MemoryNetwork), the same for all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The longest frame, in bytes. Default 65,536.
    pub max_frame: usize,
    /// Frames that wait in one direction of a connection before `send` waits. Default 256.
    pub queued_frames: usize,
    /// Bytes that wait in one direction of a connection before `send` waits. Default 1 MiB. One
    /// frame always fits into an empty queue.
    pub queued_bytes: usize,
    /// Accepted connections that wait for `next`; more are refused. Default 16.
    pub accept_queue: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max_frame: 64 << 10, queued_frames: 256, queued_bytes: 1 << 20, accept_queue: 16 }
    }
}
