//! What the tests of the suites share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::disallowed_methods, reason = "a test endpoint joins its one task itself")]

pub mod holder;
pub mod keys;
pub mod signalled;

use byway_testkit::promise::{Outcome, Promise};
use std::borrow::Borrow;
use std::time::Duration;

/// Puts every promise to the test, each on its own runtime in virtual time. Returns the names of
/// those that were broken and of those that were skipped; the reasons are printed.
pub fn trial<F: ?Sized, B: Borrow<F>>(
    promises: &[Promise<F>],
    fixture: impl Fn() -> B,
) -> (Vec<&'static str>, Vec<&'static str>) {
    const DEADLINE: Duration = Duration::from_secs(600);
    let (mut broken, mut skipped) = (Vec::new(), Vec::new());
    for promise in promises {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let verdict = runtime.block_on(async { promise.test(fixture().borrow(), DEADLINE).await });
        match verdict {
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Skipped(why)) => {
                println!("skipped: {}: {why}", promise.name());
                skipped.push(promise.name());
            }
            Err(why) => {
                println!("broken: {}: {why}", promise.name());
                broken.push(promise.name());
            }
        }
    }
    (broken, skipped)
}
