//! Promises about routes, records, named values, pins, blocks and connections.

use bytes::Bytes;
use byway_api::{
    Applied, Durability, InboxRow, Load, MessageId, OutboxRow, PeerId, RouteRow, Row, SeenRow, SignalAddress, UserId,
    WallTime, Write,
};

use super::sample::{at, connection, inbox, meta, outbox, peer, pin, record, route, seen, user};
use super::{StoreFixture, all, apply, close, done, ensure_eq, one, open};
use crate::promise::{Outcome, Verdict};

/// The key of a route is user, device and address; a route with the same key replaces it.
pub async fn a_route_is_replaced_by_its_key(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let first = route(1, 1, 1, 0.5, 10);
    done(&*store, &[Write::Route(first.clone()), Write::Route(route(1, 1, 2, 0.25, 10))]).await?;
    let newer = RouteRow { success_rate: 0.75, last_seen: at(20), path: "via somebody".into(), ..first };
    done(&*store, &[Write::Route(newer.clone()), Write::Route(route(2, 1, 1, 1.0, 10))]).await?;
    let of_user = Load::Routes { user: Some(user(1)) };
    ensure_eq!(all(&*store, of_user).await?, [Row::Route(newer), Row::Route(route(1, 1, 2, 0.25, 10))]);
    ensure_eq!(all(&*store, Load::Routes { user: Some(user(9)) }).await?, []);
    ensure_eq!(all(&*store, Load::Routes { user: None }).await?.len(), 3);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// `DropPeer` forgets every route and the record of one device.
pub async fn drop_peer_forgets_routes_and_record(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let routes = [route(1, 1, 1, 0.5, 1), route(1, 1, 2, 0.5, 1), route(2, 1, 1, 0.5, 1), route(1, 2, 1, 0.5, 1)];
    done(&*store, &routes.map(Write::Route)).await?;
    done(&*store, &[record(1, 1, 5), record(1, 2, 5), record(3, 3, 5)].map(Write::Record)).await?;
    let forget = |n| Write::DropPeer { peer: peer(n) };
    ensure_eq!(
        apply(&*store, &[forget(1), forget(1), forget(9)]).await?,
        [Applied::Done, Applied::Missing, Applied::Missing]
    );
    ensure_eq!(all(&*store, Load::Routes { user: None }).await?, [Row::Route(route(1, 2, 1, 0.5, 1))]);
    let left = [record(1, 2, 5), record(3, 3, 5)].map(Row::Record);
    ensure_eq!(all(&*store, Load::Records { user: None }).await?, left);
    ensure_eq!(one(&*store, forget(3)).await?, Applied::Done, "a record alone is enough");
    ensure_eq!(one(&*store, Write::Record(record(1, 1, 1))).await?, Applied::Done, "its number is forgotten too");
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A record replaces only one with a smaller number.
pub async fn a_record_is_replaced_only_by_a_newer_one(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let beyond_signed = 1 << 63;
    for (seq, want) in [
        (5, Applied::Done),
        (5, Applied::Duplicate),
        (4, Applied::Duplicate),
        (6, Applied::Done),
        (beyond_signed, Applied::Done),
        (7, Applied::Duplicate),
        (u64::MAX, Applied::Done),
        (u64::MAX, Applied::Duplicate),
    ] {
        ensure_eq!(one(&*store, Write::Record(record(1, 1, seq))).await?, want, "number {seq}");
    }
    done(&*store, &[Write::Record(record(2, 2, 1))]).await?;
    let newest = Row::Record(record(1, 1, u64::MAX));
    ensure_eq!(all(&*store, Load::Records { user: None }).await?, [newest.clone(), Row::Record(record(2, 2, 1))]);
    ensure_eq!(all(&*store, Load::Records { user: Some(user(1)) }).await?, [newest]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Named values are set, replaced, removed, and found by the beginning of their name.
pub async fn meta_values_are_set_removed_and_found_by_prefix(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let unset = |key: &str| Write::Meta { key: key.into(), value: None, durability: Durability::Durable };
    done(&*store, &[meta("a", "0"), meta("b/2", "2"), meta("b/1", "old"), meta("b/1", ""), meta("b0", "x")]).await?;
    done(&*store, &[meta("b/\u{10ffff}", "last"), meta("b/3", "x"), unset("b/3"), unset("never set")]).await?;
    let named =
        |key: &str, value: &'static str| Row::Meta { key: key.into(), value: Bytes::from_static(value.as_bytes()) };
    let found = all(&*store, Load::Meta { prefix: "b/".into() }).await?;
    ensure_eq!(found, [named("b/1", ""), named("b/2", "2"), named("b/\u{10ffff}", "last")]);
    ensure_eq!(all(&*store, Load::Meta { prefix: String::new() }).await?.len(), 5);
    ensure_eq!(all(&*store, Load::Meta { prefix: "c".into() }).await?, []);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A pin stays as it is until all pins of its user are forgotten.
pub async fn pins_are_kept_until_unpinned(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[pin(1, 1), pin(1, 2), pin(2, 1)].map(Write::Pin)).await?;
    let again = byway_api::PinRow { since: at(1), ..pin(1, 1) };
    ensure_eq!(one(&*store, Write::Pin(again)).await?, Applied::Duplicate);
    ensure_eq!(all(&*store, Load::Pins).await?, [pin(1, 1), pin(1, 2), pin(2, 1)].map(Row::Pin));
    let unpin = || Write::Unpin { user: user(1) };
    ensure_eq!(apply(&*store, &[unpin(), unpin()]).await?, [Applied::Done, Applied::Missing]);
    ensure_eq!(all(&*store, Load::Pins).await?, [Row::Pin(pin(2, 1))]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Blocking and unblocking are idempotent and always `Done`.
pub async fn blocks_are_set_and_lifted(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let block = |n, blocked| Write::Block { user: user(n), blocked };
    done(&*store, &[block(2, true), block(1, true), block(1, true), block(3, false)]).await?;
    ensure_eq!(all(&*store, Load::Blocked).await?, [Row::Blocked(user(1)), Row::Blocked(user(2))]);
    done(&*store, &[block(1, false)]).await?;
    ensure_eq!(all(&*store, Load::Blocked).await?, [Row::Blocked(user(2))]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A connection is inserted or replaced by its device, and goes when it ended.
pub async fn connections_are_mirrored(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let closing = byway_api::ConnectionRow { data_channel_state: "closing".into(), ..connection(1) };
    done(&*store, &[connection(2), connection(1), closing.clone()].map(Write::Connection)).await?;
    ensure_eq!(all(&*store, Load::Connections).await?, [closing, connection(2)].map(Row::Connection));
    let ended = || Write::Disconnected { peer: peer(1) };
    ensure_eq!(apply(&*store, &[ended(), ended()]).await?, [Applied::Done, Applied::Missing]);
    ensure_eq!(all(&*store, Load::Connections).await?, [Row::Connection(connection(2))]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// The smallest and the largest value of every field reads back as it was written.
pub async fn values_at_their_bounds_read_back(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let long_name = UserId::new(&"\u{1f98a}".repeat(32)).unwrap_or_else(|e| unreachable!("{e}"));
    let long_address = format!("x:{}", "y".repeat(SignalAddress::MAX - 2));
    let long_address = SignalAddress::new(&long_address).unwrap_or_else(|e| unreachable!("{e}"));
    let (first, last) = (PeerId::from_bytes([0; 32]), PeerId::from_bytes([255; 32]));
    let (earliest, latest) = (WallTime::from_millis(i64::MIN), WallTime::from_millis(i64::MAX));
    let largest = Bytes::from((0..=255).cycle().take(56 * 1024).collect::<Vec<u8>>());

    let big = OutboxRow {
        message: MessageId::from_bytes([255; 16]),
        to_user: long_name.clone(),
        to_peer: Some(last),
        epoch: u64::MAX,
        seq: u64::MAX,
        size: u32::MAX,
        content: Some(largest.clone()),
        reply_to: Some(MessageId::from_bytes([0; 16])),
        queued_at: latest,
        expires_at: latest,
        retry_count: u32::MAX,
        next_try: earliest,
        ..outbox(1, None)
    };
    let empty = OutboxRow {
        message: MessageId::from_bytes([0; 16]),
        to_peer: Some(first),
        content: Some(Bytes::new()),
        size: 0,
        queued_at: earliest,
        ..outbox(1, None)
    };
    done(&*store, &[big.clone(), empty.clone()].map(Write::Append)).await?;
    ensure_eq!(all(&*store, Load::OutboxContent(big.message)).await?, [Row::Outbox(big)]);
    ensure_eq!(all(&*store, Load::OutboxContent(empty.message)).await?, [Row::Outbox(empty)]);

    let received = InboxRow {
        from_peer: last,
        from_user: long_name.clone(),
        content: Some(largest),
        received_at: earliest,
        sent_at: latest,
        reply_to: None,
        late: true,
        ..inbox(1, u64::MAX, u64::MAX)
    };
    let above = vec![1, 2, 1 << 40, 1 << 63, u64::MAX];
    let mark = SeenRow { from_peer: last, above, used_at: earliest, ..seen(1, u64::MAX, 0, &[]) };
    done(&*store, &[Write::Receive { row: received.clone(), seen: mark.clone() }]).await?;
    let content = Load::InboxContent { from_peer: last, epoch: u64::MAX, seq: u64::MAX };
    ensure_eq!(all(&*store, content).await?, [Row::Inbox(received)]);
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(mark.clone())]);
    let whole = SeenRow { floor: u64::MAX, above: vec![], ..mark };
    done(&*store, &[Write::Seen(whole.clone())]).await?;
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(whole)]);

    let far = RouteRow {
        user: long_name,
        peer: last,
        address: long_address,
        last_seen: latest,
        success_rate: 1.0,
        path: "\u{1f98a} \0 \"'".into(),
    };
    let near = RouteRow { success_rate: 0.0, last_seen: earliest, path: String::new(), ..route(1, 0, 0, 0.0, 0) };
    done(&*store, &[far.clone(), near.clone()].map(Write::Route)).await?;
    ensure_eq!(all(&*store, Load::Routes { user: None }).await?, [far, near].map(Row::Route));
    close(&*store).await?;
    Ok(Outcome::Kept)
}
