//! The steps that ask no server.

use crate::support::{Search, peer, user, within};
use bytes::Bytes;
use byway_api::{DiscoveryStep, Neighbour, PeerId, Route, SignalAddress, StepErrorKind};
use byway_discovery::{Cache, Coordinators, Existing, Neighbours, StoreAndForward};
use byway_wire::proto;
use prost::Message as _;

fn at(text: &str) -> SignalAddress {
    text.parse().unwrap()
}

fn through(n: u8) -> String {
    SignalAddress::through(peer(n)).to_string()
}

/// A record that names coordinators. Steps read it and do not verify it.
pub(crate) fn record(coordinators: &[PeerId]) -> Bytes {
    let coordinators = coordinators.iter().map(|c| Bytes::copy_from_slice(c.as_bytes())).collect();
    let payload = proto::PeerRecord { coordinators, ..Default::default() }.encode_to_vec().into();
    proto::Signed { payload, ..Default::default() }.encode_to_vec().into()
}

#[tokio::test]
async fn existing_reports_the_users_devices_among_the_neighbours() {
    let mut search = Search::of("bob");
    search.neighbours = vec![
        Neighbour::new(peer(2), user("bob")),
        Neighbour::new(peer(3), user("carol")),
        Neighbour::new(peer(4), user("bob")),
    ];
    within(Existing.find(&search)).await.unwrap();
    assert_eq!(search.ways(), [(peer(2), through(2)), (peer(4), through(4))]);

    search.found.lock().unwrap().clear();
    search.enough = 1;
    within(Existing.find(&search)).await.unwrap();
    assert_eq!(search.found().len(), 1);
}

#[tokio::test]
async fn a_neighbour_that_answers_is_a_way_itself() {
    let mut search = Search::of("bob");
    search.neighbours = vec![Neighbour::new(peer(3), user("carol")), Neighbour::new(peer(4), user("dave"))];
    search.answers = vec![
        (peer(3), vec![Route::new(peer(2), at("ws://l:1/x")).with_record(Bytes::from_static(b"r"))]),
        (peer(4), vec![Route::new(peer(2), SignalAddress::through(peer(4)))]),
    ];
    within(Neighbours::default().find(&search)).await.unwrap();
    let mut ways = search.ways();
    ways.sort();
    let mut expected = vec![(peer(2), "ws://l:1/x".to_owned()), (peer(2), through(3)), (peer(2), through(4))];
    expected.sort();
    assert_eq!(ways, expected, "and what the neighbour said itself is not said again");
    let by_carol = search.found().into_iter().find(|r| r.address.via() == Some(peer(3))).unwrap();
    assert_eq!(by_carol.record, Some(Bytes::from_static(b"r")), "the record goes along");
}

#[tokio::test]
async fn the_slowest_neighbour_holds_nobody_up() {
    /// Carol never answers.
    struct Slow(Search);

    #[byway_api::async_trait]
    impl byway_api::Lookup for Slow {
        fn query(&self) -> &byway_api::Query {
            &self.0.query
        }
        fn connected(&self) -> Vec<Neighbour> {
            self.0.neighbours.clone()
        }
        async fn ask(&self, neighbour: PeerId) -> Result<Vec<Route>, byway_api::StepError> {
            if neighbour == peer(3) {
                std::future::pending::<()>().await;
            }
            self.0.ask(neighbour).await
        }
        async fn recall(&self, limit: usize) -> Result<Vec<Route>, byway_api::StepError> {
            self.0.recall(limit).await
        }
        fn found(&self, route: Route) -> std::ops::ControlFlow<()> {
            byway_api::Lookup::found(&self.0, route)
        }
        fn meter(&self) -> &dyn byway_api::Meter {
            byway_api::Lookup::meter(&self.0)
        }
    }

    let mut search = Search::of("bob");
    search.neighbours = vec![Neighbour::new(peer(3), user("carol")), Neighbour::new(peer(4), user("dave"))];
    search.answers = vec![(peer(4), vec![Route::new(peer(2), at("ws://l:1/x"))])];
    search.enough = 2;
    let slow = Slow(search);
    within(Neighbours::default().find(&slow)).await.unwrap();
    assert_eq!(slow.0.found().len(), 2);
}

#[tokio::test]
async fn neighbours_fail_only_if_all_of_them_do() {
    let mut search = Search::of("bob");
    within(Neighbours::default().find(&search)).await.unwrap();
    search.neighbours = vec![Neighbour::new(peer(3), user("carol")), Neighbour::new(peer(4), user("dave"))];
    let e = within(Neighbours::default().find(&search)).await.unwrap_err();
    assert_eq!(e.kind(), StepErrorKind::Timeout);
    search.answers = vec![(peer(4), Vec::new())];
    within(Neighbours::default().find(&search)).await.unwrap();
}

#[tokio::test]
async fn no_more_neighbours_are_asked_than_configured() {
    let mut search = Search::of("bob");
    search.neighbours = (10..40).map(|n| Neighbour::new(peer(n), user("carol"))).collect();
    search.answers = (10..40).map(|n| (peer(n), vec![Route::new(peer(2), SignalAddress::through(peer(n)))])).collect();
    within(Neighbours::default().find(&search)).await.unwrap();
    assert_eq!(search.found().len(), 15);
}

#[tokio::test]
async fn the_cache_reports_the_best_routes_first() {
    let mut search = Search::of("bob");
    search.remembered = (1..=20).map(|n| Route::new(peer(2), at(&format!("mem:{n}")))).collect();
    within(Cache::default().find(&search)).await.unwrap();
    let expected: Vec<String> = (1..=8).map(|n| format!("mem:{n}")).collect();
    assert_eq!(search.found().iter().map(|r| r.address.to_string()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_named_coordinator_that_is_connected_is_a_way_and_is_asked() {
    let named = record(&[peer(8), peer(9)]);
    let mut search = Search::of("bob");
    search.neighbours = vec![Neighbour::new(peer(9), user("carol")), Neighbour::new(peer(7), user("dave"))];
    search.remembered = vec![
        Route::new(peer(2), at("mem:1")).with_record(named.clone()),
        Route::new(peer(2), at("mem:2")).with_record(named.clone()),
        Route::new(peer(3), at("mem:3")),
    ];
    search.answers = vec![
        (peer(9), vec![Route::new(peer(4), at("ws://l:1/x"))]),
        (peer(7), vec![Route::new(peer(5), at("ws://not:1/asked"))]),
    ];
    within(Coordinators::default().find(&search)).await.unwrap();
    assert_eq!(
        search.ways(),
        [(peer(2), through(9)), (peer(4), "ws://l:1/x".to_owned()), (peer(4), through(9))],
        "the way through it at once, then what it answers; the other neighbour is none"
    );
    assert_eq!(search.found()[0].record, Some(named));
}

#[tokio::test]
async fn no_coordinator_is_no_error() {
    let mut search = Search::of("bob");
    within(Coordinators::default().find(&search)).await.unwrap();
    search.neighbours = vec![Neighbour::new(peer(9), user("carol"))];
    // a damaged record, one of a coordinator itself, one that is far too large
    search.remembered = vec![
        Route::new(peer(2), at("mem:1")).with_record(Bytes::from_static(b"\xff\xff\xff")),
        Route::new(peer(9), at("mem:2")).with_record(record(&[peer(9)])),
        Route::new(peer(3), at("mem:3")).with_record(record(&[peer(9); 200])),
    ];
    within(Coordinators::default().find(&search)).await.unwrap();
    assert!(search.found().is_empty());
}

#[tokio::test]
async fn a_record_cannot_make_us_ask_more_than_eight() {
    let mut search = Search::of("bob");
    search.neighbours = (10..60).map(|n| Neighbour::new(peer(n), user("carol"))).collect();
    search.remembered = (0..6)
        .map(|n| {
            let named: Vec<PeerId> = (10 + 8 * n..18 + 8 * n).map(peer).collect();
            Route::new(peer(2 + n), at("mem:1")).with_record(record(&named))
        })
        .collect();
    within(Coordinators::default().find(&search)).await.unwrap_err();
    assert_eq!(search.found().len(), 8);
}

#[tokio::test]
async fn the_last_rung_has_nothing_to_report() {
    let search = Search::of("bob");
    within(StoreAndForward.find(&search)).await.unwrap();
    assert!(search.found().is_empty() && search.tokens.spent().is_empty());
}
