//! The conformance suite for [`RouteStore`].
//!
//! Implement [`StoreFixture`] for your store and write
//!
//! ```ignore
//! // in tests/conformance.rs
//! byway_testkit::store_conformance!(my_store, MyFixture::new());
//! ```
//!
//! which gives a module `my_store` with one `#[test]` per promise. A promise that does not apply (to a
//! store without a disk) prints `skipped: ...`.
//!
//! Random ones use fixed seeds; `BYWAY_STORE_SEED=n` uses that one, and a failure prints the one it had.
//! `BYWAY_STORE_THOROUGH=1` makes more random batches.
//!
//! A store in a file has a second suite, about crashes: [`durability`].

mod batches;
pub mod broken;
pub mod durability;
mod knowledge;
mod life;
pub mod measure;
mod messages;
mod model;
mod pages;
mod random;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use byway_api::{Applied, Load, RouteStore, Row, StoreError, Write};

use crate::promise::{Broken, Promise, ensure};

pub use batches::*;
pub use knowledge::*;
pub use life::*;
pub use messages::*;
pub use model::random_batches_match_the_model;
pub use pages::*;

/// The data of one store under test.
#[async_trait]
pub trait StoreFixture: Send + Sync + 'static {
    /// Opens the store: empty the first time, over the same data afterwards, as a restarted process
    /// would. While an opened store is neither closed nor dropped it fails as the store does.
    ///
    /// # Errors
    /// What the store reports.
    async fn open(&self) -> Result<Arc<dyn RouteStore>, StoreError>;

    /// Whether the store has a disk, that is counts `durable_commits`.
    fn has_disk(&self) -> bool {
        false
    }

    /// One promise takes no longer. Default 60 s.
    fn deadline(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Every promise of the suite.
pub const PROMISES: &[Promise<dyn StoreFixture>] = crate::__store_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &dyn StoreFixture) -> Duration {
    fixture.deadline()
}

/// For the macro.
#[doc(hidden)]
pub fn boxed(fixture: impl StoreFixture) -> Box<dyn StoreFixture> {
    Box::new(fixture)
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] store:
            a_batch_answers_each_write_in_order
            writes_of_a_batch_take_effect_in_order
            a_batch_with_a_bad_write_changes_nothing
            a_batch_is_seen_whole_or_not_at_all
            batches_take_effect_in_the_order_of_the_calls
            load_sees_what_apply_returned
            a_dropped_apply_takes_effect_whole_or_not_at_all
            many_appliers_at_once_lose_nothing
            append_keeps_the_first_row
            bind_turns_an_unbound_row_into_one_per_device
            bind_without_an_unbound_row_writes_nothing
            bind_keeps_a_row_that_is_there
            progress_moves_one_row
            content_is_dropped_when_a_message_is_no_longer_queued
            forget_removes_one_row
            receive_writes_row_and_mark_together
            receive_knows_a_stored_row
            receive_knows_a_message_by_its_mark
            mark_and_take_leave_the_mark
            seen_replaces_and_unsee_removes_a_mark
            headers_have_no_content
            a_route_is_replaced_by_its_key
            drop_peer_forgets_routes_and_record
            a_record_is_replaced_only_by_a_newer_one
            meta_values_are_set_removed_and_found_by_prefix
            pins_are_kept_until_unpinned
            blocks_are_set_and_lifted
            connections_are_mirrored
            values_at_their_bounds_read_back
            rows_come_in_the_documented_order
            pages_together_are_the_whole
            a_page_has_a_bound
            pages_show_unchanged_rows_once_while_others_change
            a_durable_batch_is_one_durable_commit
            relaxed_batches_share_durable_commits
            callers_share_durable_commits
            a_closed_store_refuses_every_call
            close_is_idempotent
            reopening_keeps_everything
            reopening_forgets_live_connections
            a_second_open_is_busy
            dropping_the_store_releases_it
            random_batches_match_the_model
        }
    };
}

/// Tests a store against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`StoreFixture`](crate::store::StoreFixture); it is evaluated anew for each test, inside
/// a tokio runtime, and may `.await`.
#[macro_export]
macro_rules! store_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__store_promises! { tests $crate::store::boxed($fixture) }
        }
    };
}

/// Breaks the promise unless both are equal, and shows them.
macro_rules! ensure_eq {
    ($left:expr, $right:expr $(, $($why:tt)+)?) => {
        match (&$left, &$right) {
            (left, right) => $crate::promise::ensure!(
                *left == *right,
                "{}: got {left:?}, expected {right:?}{}",
                $crate::store::place(file!(), line!()),
                String::new() $(+ ": " + &format!($($why)+))?
            ),
        }
    };
}
use ensure_eq;

/// The line of the suite that found it.
fn place(file: &str, line: u32) -> String {
    format!("{}:{line}", file.rsplit(['/', '\\']).next().unwrap_or(file))
}

/// Whether larger counts are asked for.
fn thorough() -> bool {
    std::env::var("BYWAY_STORE_THOROUGH").is_ok_and(|v| v != "0" && !v.is_empty())
}

async fn open(fixture: &dyn StoreFixture) -> Result<Arc<dyn RouteStore>, Broken> {
    fixture.open().await.map_err(|e| Broken::new(format!("the store does not open: {e}")))
}

async fn reopen(fixture: &dyn StoreFixture, store: Arc<dyn RouteStore>) -> Result<Arc<dyn RouteStore>, Broken> {
    close(&*store).await?;
    drop(store);
    open(fixture).await
}

async fn close(store: &dyn RouteStore) -> Result<(), Broken> {
    store.close().await.map_err(|e| Broken::new(format!("the store does not close: {e}")))
}

async fn apply(store: &dyn RouteStore, batch: &[Write]) -> Result<Vec<Applied>, Broken> {
    store.apply(batch).await.map_err(|e| Broken::new(format!("a batch is refused: {e}")))
}

/// Applies one write.
async fn one(store: &dyn RouteStore, write: Write) -> Result<Applied, Broken> {
    let applied = apply(store, &[write]).await?;
    ensure!(applied.len() == 1, "one write has {} answers", applied.len());
    Ok(applied[0])
}

/// Applies writes that all must be done.
async fn done(store: &dyn RouteStore, batch: &[Write]) -> Result<(), Broken> {
    let applied = apply(store, batch).await?;
    ensure_eq!(applied, vec![Applied::Done; batch.len()], "{batch:?}");
    Ok(())
}

/// More rows than any promise writes.
const MANY: usize = 100_000;

/// Every row, read in pages of `page`.
async fn paged(store: &dyn RouteStore, what: &Load, page: usize) -> Result<Vec<Row>, Broken> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let found = store.load(what.clone(), after.take(), page).await;
        let found = found.map_err(|e| Broken::new(format!("{what:?} cannot be read: {e}")))?;
        ensure!(found.len() <= page, "{what:?} gives {} rows on a page of {page}", found.len());
        let last = found.len() < page;
        after = found.last().map(|(key, _)| key.clone());
        rows.extend(found.into_iter().map(|(_, row)| row));
        ensure!(rows.len() <= MANY, "{what:?} does not end");
        if last {
            return Ok(rows);
        }
    }
}

/// Every row.
async fn all(store: &dyn RouteStore, what: Load) -> Result<Vec<Row>, Broken> {
    paged(store, &what, 4096).await
}
