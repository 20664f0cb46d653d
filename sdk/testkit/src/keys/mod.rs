//! The conformance suite for [`KeyStore`](byway_api::KeyStore).
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//! use std::sync::Arc;
//! use byway_api::KeyStore;
//! use byway_testkit::keys::KeyStoreFixture;
//!
//! struct MyFixture;
//! # fn my_store(file: PathBuf) -> Arc<dyn KeyStore> { std::process::abort() }
//!
//! impl KeyStoreFixture for MyFixture {
//!     fn open(&self, directory: &Path) -> Arc<dyn KeyStore> {
//!         my_store(directory.join("keys"))
//!     }
//!     fn file(&self, directory: &Path) -> Option<PathBuf> {
//!         Some(directory.join("keys"))
//!     }
//! }
//!
//! // in tests/conformance.rs
//! byway_testkit::key_store_conformance!(my_keys, MyFixture);
//! # fn main() {}
//! ```
//!
//! gives a module `my_keys` with one `#[test]` per promise. A promise that does not apply (about a file
//! that a store in memory does not have) prints `skipped: ...`.
//!
//! The promise about crashes starts the test binary again, with its own test as the filter and
//! `BYWAY_KEYS_CRASH` set, and kills that process while it saves.

pub mod broken;
mod crashing;
mod files;
mod fixture;
mod keeping;

pub use crashing::{a_crash_leaves_the_old_or_the_new_keys, a_failed_save_keeps_the_old_keys};
pub use files::{
    damage_is_an_error, keys_that_others_may_read_are_refused, only_the_owner_may_read, what_was_replaced_is_gone,
};
pub use fixture::{KeyStoreFixture, Limits};
pub use keeping::{
    a_save_replaces_the_keys, an_empty_store_has_no_keys, keys_survive_reopening, loads_may_run_at_once,
    secrets_do_not_show, what_was_saved_is_loaded,
};

use crate::promise::Promise;

/// Every promise of the suite.
pub const PROMISES: &[Promise<dyn KeyStoreFixture>] = crate::__key_store_promises!(table);

/// How long one promise may take.
#[doc(hidden)]
pub fn deadline(fixture: &dyn KeyStoreFixture) -> std::time::Duration {
    fixture.limits().deadline
}

#[doc(hidden)]
#[macro_export]
macro_rules! __key_store_promises {
    ($mode:ident $($fixture:expr)?) => {
        $crate::__promises! { $mode [$($fixture)?] keys:
            an_empty_store_has_no_keys
            what_was_saved_is_loaded
            keys_survive_reopening
            a_save_replaces_the_keys
            what_was_replaced_is_gone
            a_crash_leaves_the_old_or_the_new_keys
            a_failed_save_keeps_the_old_keys
            only_the_owner_may_read
            keys_that_others_may_read_are_refused
            damage_is_an_error
            secrets_do_not_show
            loads_may_run_at_once
        }
    };
}

/// Tests a key store against its contract: a module `$suite` with one test per promise.
///
/// `$fixture` makes a [`KeyStoreFixture`](crate::keys::KeyStoreFixture); it is evaluated anew for each test,
/// inside a tokio runtime, and may `.await`.
#[macro_export]
macro_rules! key_store_conformance {
    ($suite:ident, $fixture:expr) => {
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $crate::__key_store_promises! { tests $crate::keys::boxed($fixture) }
        }
    };
}

/// For the macro.
#[doc(hidden)]
pub fn boxed(fixture: impl KeyStoreFixture) -> Box<dyn KeyStoreFixture> {
    Box::new(fixture)
}
