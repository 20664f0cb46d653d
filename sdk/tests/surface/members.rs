use std::time::Duration;

use byway::presets::InMemory;
use byway::{ConnectError, Event, LookupOutcome, Node, Roster, Status};

use crate::{PATIENCE, connect, next, pass, soon, start};

async fn until(node: &Node, what: &str, condition: impl FnMut(&Roster) -> bool) {
    soon(what, node.members().wait_for(condition)).await.expect("the node runs");
}

fn shows(roster: &Roster, text: &str) -> bool {
    roster.to_string().contains(text)
}

#[tokio::test(start_paused = true)]
async fn a_connected_member_is_green_and_a_gone_one_gray() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (bob, _bobs) = start(&world, "bob").await;
    connect(&alice, "bob").await;
    until(&alice, "bob in green", |roster| shows(roster, "🟢 bob  Connected over mem")).await;
    assert_eq!(alice.path("bob").unwrap(), "Connected over mem");
    assert_eq!(alice.member("bob").unwrap().unwrap().devices, [bob.peer()]);
    assert_eq!(alice.member("alice").unwrap(), None, "we are not in our own list");
    assert_eq!(alice.path("dave").unwrap(), "Not known");

    bob.shutdown().await.unwrap();
    until(&alice, "bob in gray", |roster| shows(roster, "⚫ bob")).await;
}

/// Each of two neighbours of a member hears of it from the other one too. When it said goodbye to both,
/// each believed the other's word, which was only its own come back, and showed it as online for half a
/// minute.
#[tokio::test(start_paused = true)]
async fn a_goodbye_counts_more_than_what_others_repeat() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (bob, _bobs) = start(&world, "bob").await;
    let (carol, mut carols) = start(&world, "carol").await;
    for (one, other) in [(&alice, "bob"), (&alice, "carol"), (&carol, "bob")] {
        connect(one, other).await;
    }
    pass(PATIENCE, &mut carols).await;
    bob.shutdown().await.unwrap();
    for node in [&alice, &carol] {
        let gray = node.members();
        let shown =
            tokio::time::timeout(Duration::from_millis(500), gray.clone().wait_for(|r| shows(r, "⚫ bob"))).await;
        assert!(shown.is_ok_and(|shown| shown.is_some()), "{}", node.path("bob").unwrap());
    }
    assert!(pass(PATIENCE, &mut carols).await.is_none());
    for node in [&alice, &carol] {
        assert_eq!(node.path("bob").unwrap(), "Offline");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_behind_another_one_is_yellow_until_there_is_a_direct_way() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (carol, mut carols) = start(&world, "carol").await;
    world.network().cut(alice.peer(), carol.peer());
    let (_bob, _bobs) = start(&world, "bob").await;
    for other in [&alice, &carol] {
        connect(other, "bob").await;
    }
    until(&alice, "carol in yellow", |roster| shows(roster, "🟡 carol  Online via bob")).await;
    let sent = alice.chat("carol").unwrap().send("by way of bob").await.unwrap();
    assert_eq!(next(&mut carols).await.text(), Some("by way of bob"));
    soon("delivery", sent.delivered()).await.unwrap();
    assert_eq!(alice.path("carol").unwrap(), "Online via bob");

    world.network().heal(alice.peer(), carol.peer());
    until(&alice, "carol in green", |roster| shows(roster, "🟢 carol")).await;
}

#[tokio::test(start_paused = true)]
async fn an_explanation_tells_how_a_member_was_found() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_bob, _bobs) = start(&world, "bob").await;
    assert_eq!(alice.explain("dave").await.unwrap(), None);
    connect(&alice, "bob").await;
    let explanation = alice.explain("bob").await.unwrap().expect("bob was sought");
    let text = explanation.to_string();
    assert!(text.starts_with("bob: connected"), "{text}");
    for step in ["existing", "neighbours", "cache", "coordinators", "directory", "store-and-forward"] {
        assert!(text.contains(step), "{step} is not in\n{text}");
    }
    assert!(explanation.dials.iter().all(|dial| dial.outcome == "connected"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_tells_why_a_member_was_not_found() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let chat = alice.chat("nobody").unwrap();
    let mut events = alice.events();
    chat.send("are you there").await.unwrap();
    let unreachable = async {
        loop {
            match events.next().await.expect("the node runs") {
                Event::Unreachable { user } => return user,
                _ => continue,
            }
        }
    };
    assert_eq!(soon("the end of the search", unreachable).await.as_str(), "nobody");
    let explanation = alice.explain("nobody").await.unwrap().expect("it was sought");
    assert_eq!((&explanation.outcome, explanation.queued), (&LookupOutcome::Queued, 1));
    let text = explanation.to_string();
    assert!(text.starts_with("nobody: not connected"), "{text}");
    assert!(text.contains("1 waiting"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn connecting_to_nobody_ends_and_says_so() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let chat = alice.chat("nobody").unwrap();
    assert_eq!(soon("an end", chat.connect(PATIENCE / 2)).await, Err(ConnectError::Unreachable));
    assert_eq!(chat.connect(Duration::ZERO).await, Err(ConnectError::Timeout));
}

#[tokio::test(start_paused = true)]
async fn events_tell_of_connections() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let mut events = alice.events();
    let (bob, _bobs) = start(&world, "bob").await;
    connect(&alice, "bob").await;
    let mut seen = Vec::new();
    let both = async {
        while seen.len() < 2 {
            match events.next().await.expect("the node runs") {
                Event::Connected { user, transport, .. } => {
                    seen.push(format!("{user} over {transport}"));
                    bob.shutdown().await.unwrap();
                }
                Event::Disconnected { user, .. } => seen.push(format!("{user} is gone")),
                _ => {}
            }
        }
    };
    soon("both events", both).await;
    assert_eq!(seen, ["bob over mem", "bob is gone"]);
}

#[tokio::test(start_paused = true)]
async fn the_success_metrics_are_live() {
    let world = InMemory::new();
    let (alice, _alices) = start(&world, "alice").await;
    let (_bob, _bobs) = start(&world, "bob").await;
    let before = alice.metrics().await.unwrap();
    assert_eq!((before.delivered_within_5s(), before.registry_calls), (None, 0));
    let sent = alice.chat("bob").unwrap().send("x").await.unwrap();
    soon("delivery", sent.delivered()).await.unwrap();
    let metrics = alice.metrics().await.unwrap();
    assert_eq!(metrics.delivered_within_5s(), Some(1.0));
    assert_eq!(metrics.direct_rate(), Some(1.0));
    assert!(metrics.registry_calls_per_minute() < 1.0);
    until(&alice, "bob in green", |roster| roster.get("bob").is_some_and(|bob| bob.status() == Status::Direct)).await;
}
