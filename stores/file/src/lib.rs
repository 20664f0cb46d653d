//! What every store in a file needs, whatever its format.
//!
//! | module | what it is for |
//! |---|---|
//! | [`lock`] | one process at a time, and a message that says who has the file |
//! | [`queue`] | calls from async code to the one thread that writes, in their order, with a bound |
//!
//! `byway-store-sqlite` and `byway-store-redb` are built on both; a store of your own may be too.

mod error;
pub mod lock;
pub mod queue;

pub use error::io_error;
