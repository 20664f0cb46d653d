//! A relay dies under a conversation: another one takes over, and soon.

use std::collections::BTreeMap;

use super::world::{Event, World};

/// A message that is sent right after the death of the relay arrives within this time.
const FAILOVER_MS: u64 = 3_000;
/// For so long everything that counts has been well before.
const WELL_MS: u64 = 15_000;
/// When it is looked at: accepting a message may take a moment too.
const LOOK_MS: u64 = 6_000;

/// A relay that was killed.
#[derive(Clone, Debug)]
pub(super) struct Failover {
    at: u64,
    from: usize,
    to: usize,
    message: usize,
    /// Relays that were left.
    others: Vec<usize>,
}

impl World {
    /// Two nodes that are kept apart, and the relays between them, if there are several and all is well.
    fn conversation(&mut self) -> Option<(usize, usize, Vec<usize>)> {
        let pairs = self.pairs();
        let since = self.now.saturating_sub(WELL_MS);
        let apart = self.plan.apart.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        let found: Vec<_> = apart
            .filter_map(|(from, to)| {
                let well = |n: usize| self.nodes[n].well(self.now, WELL_MS);
                let core = self.nodes[from].core.as_ref().filter(|c| c.metrics().queued == 0)?;
                let ways = core.ways(self.clock(from), &self.nodes[to].peer);
                let relays: Vec<_> = ways.iter().filter_map(|p| self.places.get(p).copied()).collect();
                let good = |r: &usize| well(*r) && between(&pairs, from, *r, to, since);
                let fits = well(from) && well(to) && relays.len() >= 2 && relays.iter().all(good);
                let known = core.record(&self.nodes[to].peer).is_some() && self.nodes[from].user != self.nodes[to].user;
                (fits && known).then_some((from, to, relays))
            })
            .collect();
        let at = self.random.index(found.len().max(1));
        found.into_iter().nth(at)
    }

    /// Kills the relay of a conversation, and goes on with it.
    pub(super) fn relay_crash(&mut self, down: u64) {
        let Some((from, to, relays)) = self.conversation() else { return };
        let Some((first, others)) = relays.split_first() else { return };
        let at = self.now;
        self.trace.say(at, *first, || format!("killed as the relay from n{from} to n{to}; left: {others:?}"));
        self.kill(*first);
        self.after(down, Event::Boot(*first));
        let message = self.send_sized(from, to, 64, None);
        let failover = Failover { at, from, to, message, others: others.to_vec() };
        self.after(LOOK_MS, Event::FailedOver(failover));
    }

    /// Whether the message came in time, if nothing else has happened meanwhile.
    pub(super) fn failed_over(&mut self, failover: &Failover) {
        let Failover { at, from, to, message, others } = failover;
        let (pairs, since) = (self.pairs(), at.saturating_sub(1));
        let well = |n: usize| self.nodes[n].well(self.now, LOOK_MS);
        let left = others.iter().any(|r| well(*r) && between(&pairs, *from, *r, *to, since));
        let Some(accepted) = self.ledger.messages[*message].accepted_at.filter(|_| well(*from) && well(*to) && left)
        else {
            return;
        };
        let took = self.ledger.messages[*message].arrived.get(to).map(|t| t.saturating_sub(accepted));
        self.stats.failovers += 1;
        self.stats.failover_ms = self.stats.failover_ms.max(took.unwrap_or(LOOK_MS));
        if took.is_none_or(|ms| ms > FAILOVER_MS) {
            let text = format!("message {message} to n{to}, sent when its relay had died, took {took:?} ms");
            self.violation(*from, &text);
        }
    }
}

/// Whether `relay` has had one good connection to both since `since`.
pub(super) fn between(
    pairs: &BTreeMap<(usize, usize), (usize, u64)>,
    a: usize,
    relay: usize,
    b: usize,
    since: u64,
) -> bool {
    let good = |x: usize, y: usize| pairs.get(&(x.min(y), x.max(y))).is_some_and(|(n, at)| *n == 1 && *at < since);
    good(a, relay) && good(relay, b)
}
