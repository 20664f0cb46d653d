//! Sends what a connection's stack has written, and learns from it which remote addresses are its
//! own.

use std::sync::Arc;
use std::time::Instant;

use rtc::shared::TaggedBytesMut;

use crate::demux::Remote;
use crate::peer::{ConnId, Live, Peer};
use crate::shared::Shared;
use crate::stun::{self, Class};
use crate::sync::lock;

/// A bundle of datagrams stays below the largest IP packet.
const MAX_BUNDLE: usize = 60_000;

impl Peer {
    /// Sends everything. Returns the connection whose remote address this one took over.
    pub(crate) fn flush(&self, shared: &Arc<Shared>, live: &mut Live, now: Instant) -> Option<ConnId> {
        let mut replaced = None;
        if !live.open && live.chosen.is_none() && live.described {
            // the controlled side may speak first, so the offerer listens before it has sent
            if let Some(remote) = live.pair_remote() {
                replaced = choose(shared, live, self.id, remote);
            }
        }
        if live.out.is_empty() {
            return replaced;
        }
        let out = std::mem::take(&mut live.out);
        let checks = out.iter().filter(|write| is_request(write)).count();
        let may_send = (checks > 0 && !live.open).then(|| live.pacing.select(checks, now));
        let mut check = 0;
        let mut rest = &out[..];
        let mut bundle = Vec::new();
        let mut turn = live.relayed.map(|_| lock(&shared.turn));
        while let Some((write, others)) = rest.split_first() {
            rest = others;
            let (local, address) = (write.transport.local_addr, write.transport.peer_addr);
            let remote = Remote { address, relayed: live.relayed == Some(local) };
            match stun::classify(&write.message) {
                Class::Request { .. } => {
                    check += 1;
                    if may_send.as_ref().is_some_and(|may| !may(check - 1)) {
                        continue;
                    }
                    live.last_check = now;
                    if let Some(transaction) = stun::transaction(&write.message) {
                        lock(&shared.tables).demux.add_transaction(transaction, self.id, now);
                    }
                }
                // we answer only what carried the right password
                Class::Response { success: true, .. } => lock(&shared.tables).demux.learn(remote, self.id),
                Class::Response { .. } | Class::Indication => {}
                Class::Other => {
                    if live.chosen != Some(remote) {
                        replaced = choose(shared, live, self.id, remote).or(replaced);
                    }
                }
            }
            if remote.relayed {
                if let Some(turn) = turn.as_mut().and_then(|turn| turn.as_mut()) {
                    turn.send(address, &write.message, now);
                    shared.flush_turn(turn, &live.sockets);
                }
                continue;
            }
            let Some(socket) = live.sockets.of(local) else { continue };
            let more = run_length(write, rest, socket.max_segments());
            if more == 0 {
                socket.send(local.ip(), address, &write.message, None);
                continue;
            }
            let (run, others) = rest.split_at(more);
            rest = others;
            bundle.clear();
            bundle.extend_from_slice(&write.message);
            run.iter().for_each(|write| bundle.extend_from_slice(&write.message));
            socket.send(local.ip(), address, &bundle, Some(write.message.len()));
        }
        drop(turn);
        // the buffer serves the next flush
        live.out = out;
        live.out.clear();
        replaced
    }
}

fn choose(shared: &Shared, live: &mut Live, id: ConnId, remote: Remote) -> Option<ConnId> {
    live.chosen = Some(remote);
    lock(&shared.tables).demux.choose(remote, id)
}

fn is_request(write: &TaggedBytesMut) -> bool {
    matches!(stun::classify(&write.message), Class::Request { .. })
}

/// How many of `rest` can leave in one system call with `first`: same way, same length, only the
/// last may be shorter. STUN goes alone.
fn run_length(first: &TaggedBytesMut, rest: &[TaggedBytesMut], max_segments: usize) -> usize {
    let segment = first.message.len();
    let mut total = segment;
    let mut ended = stun::classify(&first.message) != Class::Other;
    rest.iter()
        .take(max_segments.saturating_sub(1))
        .take_while(|next| {
            let len = next.message.len();
            total += len;
            let fits = !ended
                && (1..=segment).contains(&len)
                && total <= MAX_BUNDLE
                && next.transport.peer_addr == first.transport.peer_addr
                && next.transport.local_addr == first.transport.local_addr
                && stun::classify(&next.message) == Class::Other;
            ended = len < segment;
            fits
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Datagram;

    fn writes(lengths: &[usize]) -> Vec<TaggedBytesMut> {
        let (local, remote) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let datagram = |len: &usize| Datagram { local, remote, bytes: vec![23; *len][..].into() };
        lengths.iter().map(|len| datagram(len).tagged(Instant::now())).collect()
    }

    #[test]
    fn a_run_has_one_length_and_a_shorter_end() {
        for (lengths, want) in [
            (&[100, 100, 100][..], 2),
            (&[100, 100, 50, 50], 2),
            (&[100, 200], 0),
            (&[100], 0),
            (&[100, 0], 0),
            (&[30_000, 30_000, 30_000], 1),
        ] {
            let writes = writes(lengths);
            assert_eq!(run_length(&writes[0], &writes[1..], 64), want, "{lengths:?}");
        }
        let all = writes(&[100; 10]);
        assert_eq!(run_length(&all[0], &all[1..], 4), 3);
        assert_eq!(run_length(&all[0], &all[1..], 1), 0);
    }

    #[test]
    fn a_run_goes_one_way() {
        let mut all = writes(&[100; 3]);
        all[2].transport.peer_addr = "192.0.2.3:3".parse().unwrap();
        assert_eq!(run_length(&all[0], &all[1..], 64), 1);
    }
}
