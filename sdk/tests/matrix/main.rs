//! Every transport with every store, through the same scenarios, on real nodes: what an app sees must
//! not depend on the plugins below.

#![cfg(all(
    feature = "memory",
    feature = "webrtc",
    feature = "libp2p",
    feature = "sqlite",
    feature = "redb",
    feature = "listener"
))]
#![allow(clippy::unwrap_used)]

mod fallover;
mod kit;
mod scenarios;

use std::future::Future;
use std::time::Duration;

/// Longer than any wait of a healthy node.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes within [`PATIENCE`].
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A test for each scenario, named for the transport and the store it runs over.
macro_rules! matrix {
    ($($name:ident: $way:ident over $keep:ident;)*) => {$(
        mod $name {
            use crate::kit::{Keep, Way};
            use crate::scenarios;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn messages_both_ways_arrive_once_and_in_order() {
                scenarios::messages_both_ways_arrive_once_and_in_order(Way::$way(), Keep::$keep).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_was_sent_to_a_member_who_is_off_arrives_when_it_is_back() {
                scenarios::what_was_sent_to_a_member_who_is_off_arrives_when_it_is_back(Way::$way(), Keep::$keep).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_was_sent_outlives_its_sender() {
                scenarios::what_was_sent_outlives_its_sender(Way::$way(), Keep::$keep).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_message_that_was_not_finished_is_shown_again_after_a_restart() {
                scenarios::a_message_that_was_not_finished_is_shown_again_after_a_restart(Way::$way(), Keep::$keep)
                    .await;
            }
        }
    )*};
}

matrix! {
    memory_over_memory: memory over Memory;
    memory_over_sqlite: memory over Sqlite;
    memory_over_redb: memory over Redb;
    webrtc_over_memory: webrtc over Memory;
    webrtc_over_sqlite: webrtc over Sqlite;
    webrtc_over_redb: webrtc over Redb;
    libp2p_over_memory: libp2p over Memory;
    libp2p_over_sqlite: libp2p over Sqlite;
    libp2p_over_redb: libp2p over Redb;
}
