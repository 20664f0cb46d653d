//! Promises about the outbox, the inbox and the marks.

use bytes::Bytes;
use byway_api::{Applied, InboxRow, InboxState, Load, OutboxRow, OutboxState, PeerId, RouteStore, Row, Write};

use super::sample::{append, at, inbox, message, outbox, peer, receive, seen};
use super::{StoreFixture, all, apply, close, done, ensure_eq, one, open};
use crate::promise::{Broken, Outcome, Verdict};

async fn outbox_content(store: &dyn RouteStore, n: u16) -> Result<Vec<OutboxRow>, Broken> {
    let rows = all(store, Load::OutboxContent(message(n))).await?;
    let row = |row| match row {
        Row::Outbox(row) => Ok(row),
        other => Err(Broken::new(format!("{other:?} is not of the outbox"))),
    };
    let mut rows = rows.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|row| row.to_peer);
    Ok(rows)
}

fn progress(n: u16, to: Option<u8>, state: OutboxState) -> Write {
    Write::Progress { message: message(n), to_peer: to.map(peer), state, retry_count: 3, next_try: at(5000) }
}

/// The key of an outbox row is message and device; a second append with it changes nothing.
pub async fn append_keeps_the_first_row(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let first = outbox(1, Some(1));
    ensure_eq!(one(&*store, Write::Append(first.clone())).await?, Applied::Done);
    let other = OutboxRow { content: Some(Bytes::from_static(b"other")), retry_count: 9, ..first.clone() };
    ensure_eq!(one(&*store, Write::Append(other)).await?, Applied::Duplicate);
    ensure_eq!(outbox_content(&*store, 1).await?, [first]);
    for to in [Some(2), None] {
        ensure_eq!(one(&*store, append(1, to)).await?, Applied::Done, "another device is another key");
    }
    ensure_eq!(one(&*store, append(1, None)).await?, Applied::Duplicate);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// `Bind` replaces the unbound row by one per device, each with its content.
pub async fn bind_turns_an_unbound_row_into_one_per_device(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let unbound = outbox(1, None);
    done(&*store, &[Write::Append(unbound.clone()), append(2, None)]).await?;
    let bound = |to| OutboxRow { content: None, ..outbox(1, Some(to)) };
    done(&*store, &[Write::Bind { message: message(1), rows: vec![bound(1), bound(2)] }]).await?;
    let with_content = |to| OutboxRow { content: unbound.content.clone(), ..bound(to) };
    ensure_eq!(outbox_content(&*store, 1).await?, [with_content(1), with_content(2)]);
    ensure_eq!(outbox_content(&*store, 2).await?, [outbox(2, None)], "another message stays");
    let again = Write::Bind { message: message(1), rows: vec![bound(3)] };
    ensure_eq!(one(&*store, again).await?, Applied::Missing, "it is bound already");
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// Without an unbound row `Bind` writes nothing, and without rows it loses nothing.
pub async fn bind_without_an_unbound_row_writes_nothing(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1)), append(2, None)]).await?;
    for (n, rows) in [(1, vec![outbox(1, Some(2))]), (9, vec![outbox(9, Some(2))]), (2, vec![])] {
        ensure_eq!(one(&*store, Write::Bind { message: message(n), rows }).await?, Applied::Missing);
    }
    ensure_eq!(outbox_content(&*store, 1).await?, [outbox(1, Some(1))]);
    ensure_eq!(outbox_content(&*store, 2).await?, [outbox(2, None)]);
    ensure_eq!(outbox_content(&*store, 9).await?, []);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A device that has the message already keeps its row: it may have been delivered.
pub async fn bind_keeps_a_row_that_is_there(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1)), progress(1, Some(1), OutboxState::Delivered), append(1, None)]).await?;
    let before = outbox_content(&*store, 1).await?;
    done(&*store, &[Write::Bind { message: message(1), rows: vec![outbox(1, Some(1)), outbox(1, Some(2))] }]).await?;
    let after = outbox_content(&*store, 1).await?;
    ensure_eq!(after, [before[1].clone(), outbox(1, Some(2))]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// `Progress` changes state, attempts and next attempt of the row of one device.
pub async fn progress_moves_one_row(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1)), append(1, Some(2)), append(1, None)]).await?;
    let moved = |to| OutboxRow { retry_count: 3, next_try: at(5000), ..outbox(1, to) };
    for to in [Some(1), None] {
        ensure_eq!(one(&*store, progress(1, to, OutboxState::Queued)).await?, Applied::Done);
    }
    ensure_eq!(outbox_content(&*store, 1).await?, [moved(None), moved(Some(1)), outbox(1, Some(2))]);
    for (n, to) in [(1, Some(3)), (2, Some(1)), (2, None)] {
        ensure_eq!(one(&*store, progress(n, to, OutboxState::Queued)).await?, Applied::Missing);
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// In any state but `Queued` the content is gone and its size is kept; `Queued` keeps it.
pub async fn content_is_dropped_when_a_message_is_no_longer_queued(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    for (n, state) in [(1, OutboxState::Delivered), (2, OutboxState::Read), (3, OutboxState::Expired)] {
        done(&*store, &[append(n, Some(1)), progress(n, Some(1), OutboxState::Queued)]).await?;
        ensure_eq!(outbox_content(&*store, n).await?[0].content, outbox(n, None).content);
        done(&*store, &[progress(n, Some(1), state)]).await?;
        let rows = outbox_content(&*store, n).await?;
        ensure_eq!((rows[0].state, &rows[0].content, rows[0].size), (state, &None, outbox(n, None).size));
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// `Forget` removes the row of one device.
pub async fn forget_removes_one_row(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1)), append(1, Some(2)), append(1, None)]).await?;
    let forget = |to: Option<u8>| Write::Forget { message: message(1), to_peer: to.map(peer) };
    done(&*store, &[forget(Some(1)), forget(None)]).await?;
    ensure_eq!(outbox_content(&*store, 1).await?, [outbox(1, Some(2))]);
    ensure_eq!(apply(&*store, &[forget(Some(1)), forget(None)]).await?, [Applied::Missing; 2]);
    ensure_eq!(one(&*store, append(1, Some(1))).await?, Applied::Done, "its key is free again");
    close(&*store).await?;
    Ok(Outcome::Kept)
}

async fn inbox_content(store: &dyn RouteStore, from: u8, epoch: u64, seq: u64) -> Result<Option<InboxRow>, Broken> {
    let from_peer: PeerId = peer(from);
    match all(store, Load::InboxContent { from_peer, epoch, seq }).await?.pop() {
        Some(Row::Inbox(row)) => Ok(Some(row)),
        None => Ok(None),
        Some(other) => Err(Broken::new(format!("{other:?} is not of the inbox"))),
    }
}

/// `Receive` writes the message and its mark.
pub async fn receive_writes_row_and_mark_together(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let row = inbox(1, 7, 5);
    let mark = seen(1, 7, 3, &[5, 9]);
    done(&*store, &[Write::Receive { row: row.clone(), seen: mark.clone() }]).await?;
    ensure_eq!(inbox_content(&*store, 1, 7, 5).await?, Some(row));
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(mark)]);
    ensure_eq!(inbox_content(&*store, 1, 7, 4).await?, None);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A message whose row is there is a duplicate even if no mark says so, and changes neither.
pub async fn receive_knows_a_stored_row(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let first = seen(1, 7, 1, &[]);
    done(&*store, &[Write::Receive { row: inbox(1, 7, 5), seen: first.clone() }]).await?;
    let other = InboxRow { content: Some(Bytes::from_static(b"other")), ..inbox(1, 7, 5) };
    let again = Write::Receive { row: other, seen: seen(1, 7, 6, &[8]) };
    ensure_eq!(one(&*store, again).await?, Applied::Duplicate);
    ensure_eq!(inbox_content(&*store, 1, 7, 5).await?, Some(inbox(1, 7, 5)));
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(first)], "a duplicate leaves the mark");
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A message that was taken is a duplicate by its mark: below the floor, or above it and listed.
pub async fn receive_knows_a_message_by_its_mark(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let mark = seen(1, 7, 10, &[12, 15]);
    done(&*store, &[Write::Seen(mark.clone())]).await?;
    for seq in [0, 1, 9, 12, 15] {
        ensure_eq!(one(&*store, receive(1, 7, seq)).await?, Applied::Duplicate, "seq {seq}");
    }
    ensure_eq!(all(&*store, Load::Inbox).await?, [], "nothing is written");
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(mark)]);
    let next = |from, epoch, seq| Write::Receive { row: inbox(from, epoch, seq), seen: seen(from, epoch, seq, &[]) };
    for (from, epoch, seq) in [(1, 8, 9), (2, 7, 9), (1, 7, 16)] {
        ensure_eq!(one(&*store, next(from, epoch, seq)).await?, Applied::Done, "{from} {epoch} {seq} is new");
    }
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// `Mark` changes the state of one row and `Take` removes it; the mark still knows the message.
pub async fn mark_and_take_leave_the_mark(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[receive(1, 7, 1), receive(2, 7, 1)]).await?;
    let mark = |seq| Write::Mark { from_peer: peer(1), epoch: 7, seq, state: InboxState::Read };
    let take = |seq| Write::Take { from_peer: peer(1), epoch: 7, seq };
    ensure_eq!(
        apply(&*store, &[mark(1), mark(2), take(2)]).await?,
        [Applied::Done, Applied::Missing, Applied::Missing]
    );
    ensure_eq!(inbox_content(&*store, 1, 7, 1).await?, Some(InboxRow { state: InboxState::Read, ..inbox(1, 7, 1) }));
    ensure_eq!(apply(&*store, &[take(1), take(1)]).await?, [Applied::Done, Applied::Missing]);
    ensure_eq!(inbox_content(&*store, 1, 7, 1).await?, None);
    ensure_eq!(inbox_content(&*store, 2, 7, 1).await?, Some(inbox(2, 7, 1)), "another sender's stays");
    ensure_eq!(one(&*store, receive(1, 7, 1)).await?, Applied::Duplicate, "a taken message does not come again");
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// `Seen` replaces the mark of one epoch and `Unsee` forgets it.
pub async fn seen_replaces_and_unsee_removes_a_mark(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    let marks = [seen(1, 7, 1, &[3, 4, 5]), seen(1, 8, 1, &[]), seen(1, 7, 9, &[100])];
    done(&*store, &marks.clone().map(Write::Seen)).await?;
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(marks[2].clone()), Row::Seen(marks[1].clone())]);
    let unsee = || Write::Unsee { from_peer: peer(1), epoch: 7 };
    ensure_eq!(apply(&*store, &[unsee(), unsee()]).await?, [Applied::Done, Applied::Missing]);
    ensure_eq!(all(&*store, Load::Seen).await?, [Row::Seen(marks[1].clone())]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}

/// A header has everything but the content.
pub async fn headers_have_no_content(fixture: &dyn StoreFixture) -> Verdict {
    let store = open(fixture).await?;
    done(&*store, &[append(1, Some(1)), receive(1, 7, 1)]).await?;
    let header = OutboxRow { content: None, ..outbox(1, Some(1)) };
    ensure_eq!(all(&*store, Load::Outbox).await?, [Row::Outbox(header)]);
    let header = InboxRow { content: None, ..inbox(1, 7, 1) };
    ensure_eq!(all(&*store, Load::Inbox).await?, [Row::Inbox(header)]);
    close(&*store).await?;
    Ok(Outcome::Kept)
}
