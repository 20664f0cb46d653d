//! Promises of `load`: documented order, pages, bounds.

use byway_api::{InboxRow, Load, OutboxRow, RouteStore, Row, SeenRow, StoreErrorKind, Write};

use super::model::Model;
use super::random::{Random, random_batch};
use super::sample::{append, at, connection, inbox, meta, outbox, peer, pin, record, route, seen, user};
use super::{StoreFixture, all, apply, close, done, ensure_eq, open, paged};
use crate::promise::{Broken, Outcome, Verdict};

/// Every kind of load in the order that [`Load`] documents.
pub async fn rows_come_in_the_documented_order(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let routes = [
        route(1, 1, 1, 0.9, 5),
        route(2, 1, 1, 0.5, 9),
        route(1, 2, 1, 0.5, 8),
        route(1, 1, 2, 0.5, -8),
        route(1, 1, 3, 0.1, 99),
    ];
    in_order(&*store, routes.map(Write::Route), Load::Routes { user: None }).await?;

    let records = [record(9, 1, 1), record(1, 2, 9), record(5, 200, 5)];
    in_order(&*store, records.map(Write::Record), Load::Records { user: None }).await?;

    let sent = |n, to, queued| OutboxRow { queued_at: at(queued), content: None, ..outbox(n, to) };
    let outbox =
        [sent(9, Some(1), -5), sent(1, None, 7), sent(1, Some(1), 7), sent(1, Some(200), 7), sent(2, Some(1), 7)];
    in_order(&*store, outbox.map(Write::Append), Load::Outbox).await?;

    let got =
        |from, epoch, seq, received| InboxRow { received_at: at(received), content: None, ..inbox(from, epoch, seq) };
    let inbox = [
        got(9, 9, 9, -1),
        got(1, 1, 2, 3),
        got(1, 1, u64::MAX, 3),
        got(1, 2, 1, 3),
        got(1, u64::MAX, 1, 3),
        got(2, 1, 1, 3),
    ];
    let receive = |row: InboxRow| {
        let seen = SeenRow { floor: 0, ..seen(0, row.epoch, 0, &[]) };
        Write::Receive { seen: SeenRow { from_peer: row.from_peer, ..seen }, row }
    };
    in_order(&*store, inbox.map(receive), Load::Inbox).await?;

    let marks =
        [seen(1, 1, 0, &[]), seen(1, 2, 0, &[]), seen(1, u64::MAX, 0, &[]), seen(2, 1, 0, &[]), seen(9, 9, 0, &[])];
    in_order(&*store, marks.map(Write::Seen), Load::Seen).await?;

    let pins = [pin(1, 1), pin(1, 2), pin(1, 200), pin(2, 1)];
    in_order(&*store, pins.map(Write::Pin), Load::Pins).await?;

    let blocked = [1, 2, 20, 3].map(|n| Write::Block { user: user(n), blocked: true });
    in_order(&*store, blocked, Load::Blocked).await?;

    in_order(&*store, [1, 2, 200].map(connection).map(Write::Connection), Load::Connections).await?;

    let named = ["a", "a/b", "ab", "b", "\u{e9}"].map(|key| meta(key, "x"));
    in_order(&*store, named, Load::Meta { prefix: String::new() }).await?;
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Writes rows, the last first, and expects them in their own order.
async fn in_order<const N: usize>(store: &dyn RouteStore, writes: [Write; N], what: Load) -> Result<(), Broken> {
    let want: Vec<_> = writes.iter().map(row_of).collect();
    let mut writes = writes.to_vec();
    writes.reverse();
    // One batch a row: nothing but the rows themselves may decide the order.
    for write in writes {
        done(store, &[write]).await?;
    }
    ensure_eq!(all(store, what).await?, want);
    Ok(())
}

fn row_of(write: &Write) -> Row {
    match write.clone() {
        Write::Route(row) => Row::Route(row),
        Write::Record(row) => Row::Record(row),
        Write::Append(row) => Row::Outbox(row),
        Write::Receive { row, .. } => Row::Inbox(row),
        Write::Seen(row) => Row::Seen(row),
        Write::Pin(row) => Row::Pin(row),
        Write::Block { user, .. } => Row::Blocked(user),
        Write::Connection(row) => Row::Connection(row),
        Write::Meta { key, value, .. } => Row::Meta { key, value: value.unwrap_or_default() },
        other => unreachable!("{other:?} is not a row"),
    }
}

/// Pages of any size give the same rows in the same order as one page.
pub async fn pages_together_are_the_whole(fixture: &dyn StoreFixture) -> Verdict {
    const BATCHES: usize = 150;
    let store = open(fixture).await?;
    let mut random = Random::new(1);
    for _ in 0..BATCHES {
        apply(&*store, &random_batch(&mut random)).await?;
    }
    // Equal rates and times: only a key that tells them apart keeps a page boundary between them.
    for n in 0..40 {
        done(&*store, &[Write::Route(route(n % 7, n, n % 3, 0.5, 1))]).await?;
    }
    for what in Model::loads() {
        let whole = all(&*store, what.clone()).await?;
        for size in [1, 2, 3, 7, whole.len().max(1), whole.len() + 1] {
            ensure_eq!(paged(&*store, &what, size).await?, whole, "{what:?} in pages of {size}");
        }
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A page has 1 to 4,096 rows.
pub async fn a_page_has_a_bound(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[meta("a", "1")]).await?;
    for limit in [0, 4097, usize::MAX] {
        let refused = store.load(Load::Meta { prefix: String::new() }, None, limit).await.err().map(|e| e.kind());
        ensure_eq!(refused, Some(StoreErrorKind::TooLarge), "a page of {limit}");
    }
    for limit in [1, 4096] {
        let page = store.load(Load::Meta { prefix: String::new() }, None, limit).await;
        ensure_eq!(page.ok().map(|page| page.len()), Some(1), "a page of {limit}");
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// While pages are read others write; a row that nobody changes is seen exactly once.
pub async fn pages_show_unchanged_rows_once_while_others_change(fixture: &dyn StoreFixture) -> Verdict {
    const ROWS: u16 = 60;
    let store = open(fixture).await?;
    // Even ones stay, odd ones go and come while pages are read.
    for n in 0..ROWS {
        done(&*store, &[append(n, Some(1))]).await?;
    }
    let mut seen = Vec::new();
    let mut after = None;
    for turn in 0.. {
        let page = match store.load(Load::Outbox, after.take(), 4).await {
            Ok(page) => page,
            Err(error) => return Err(Broken::new(format!("a page cannot be read: {error}"))),
        };
        after = page.last().map(|(key, _)| key.clone());
        let last = page.len() < 4;
        seen.extend(page.into_iter().filter_map(|(_, row)| match row {
            Row::Outbox(row) if row.seq % 2 == 1 => Some(row.message),
            _ => None,
        }));
        if last {
            break;
        }
        // Before, at and behind the place where the page ended.
        for n in (1..ROWS).step_by(2).filter(|n| (n / 2) % 3 == turn % 3) {
            let row = outbox(n, Some(1));
            let forget = Write::Forget { message: row.message, to_peer: Some(peer(1)) };
            apply(&*store, &[forget]).await?;
            if turn % 2 == 0 {
                apply(&*store, &[append(n, Some(1))]).await?;
            }
        }
    }
    let want: Vec<_> = (0..ROWS).step_by(2).map(|n| outbox(n, None).message).collect();
    ensure_eq!(seen, want);
    close(&*store).await?;
    Ok(Outcome::Kept)
}
