//! What is looked at after every event, every second, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use byway_core::link::{LinkKey, LinkState};
use byway_core::view::{LookupOutcome, Reach};

use super::Faults;
use super::world::{Event, World};

/// A message on a connection that works is acknowledged within this time.
const PROMPT_MS: u64 = 12_000;
/// A common neighbour is known as one, and has passed on what waited, within this time.
const KNOWN_MS: u64 = 45_000;
/// A command is answered within this time.
const ANSWER_MS: u64 = 20_000;
/// Presence converges within this time after the healing.
const PRESENCE_MS: u64 = 90_000;
/// Member lists that are compared in one second.
const AT_ONCE: usize = 100;
/// By then everybody has met.
const GRAY_FROM_MS: u64 = 30_000;
/// For so long somebody who is there may be shown as gone.
const GRAY_MS: u64 = 5_000;

/// What has to hold over time.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Since when all nodes hang together.
    joined_since: Option<u64>,
    /// When all member lists showed everybody for the first time after the healing.
    right_at: Option<u64>,
    /// Whom a node shows as gone, and since when.
    gray_since: BTreeMap<usize, (usize, u64)>,
    settled: bool,
}

impl World {
    /// After every event of a node.
    pub(super) fn look(&mut self, place: usize) {
        let most = self.tuning.max_links();
        let Some(core) = &self.nodes[place].core else { return };
        let links = core.linked().len();
        if links > most {
            self.violation(place, &format!("{links} peers connected, at most {most} may be"));
        }
    }

    /// Whether the run is over.
    pub(super) const fn settled(&self) -> bool {
        self.rest.settled
    }

    /// Three times the longest timer.
    fn patience_ms(&self) -> u64 {
        let longest = self.tuning.retry_slow.max(self.tuning.anchor_retry_max);
        u64::try_from(longest.as_millis()).unwrap_or(0) * 3
    }

    pub(super) fn second(&mut self) {
        self.after(1_000, Event::Second);
        if self.healed.is_none() {
            self.break_some();
            if self.now >= self.config.chaos_ms() {
                self.heal();
            }
        }
        for place in 0..self.nodes.len() {
            self.check_node(place);
        }
        self.check_prompt();
        self.check_gray();
        if let Some(healed) = self.healed {
            self.check_presence(healed);
            let quiet = self.ledger.open.is_empty() && self.ledger.unseen.is_empty();
            if quiet && self.stats.settled_after_ms == 0 {
                self.stats.settled_after_ms = (self.now - healed).max(1);
            }
            if quiet && self.now >= healed + PRESENCE_MS + 30_000 {
                self.check_rest();
                self.rest.settled = true;
            } else if self.now >= healed + self.patience_ms() {
                self.unsettled();
                self.rest.settled = true;
            }
        }
    }

    fn break_some(&mut self) {
        let ids: Vec<_> = self.pipes.keys().copied().collect();
        for id in ids {
            if self.random.chance(self.weather.breaks) {
                self.break_pipe(id);
            }
        }
    }

    /// Links and requests of one node.
    fn check_node(&mut self, place: usize) {
        if !self.nodes[place].awake(self.now) {
            return;
        }
        let Some(core) = &self.nodes[place].core else { return };
        let mut wrong = Vec::new();
        for peer in core.linked().filter(|p| core.link(p) != LinkState::Connected) {
            wrong.push(format!("connected to {peer:?}, and the link is {:?}", core.link(peer)));
        }
        for (key, _) in core.links().filter(|(_, state)| *state == LinkState::Connected) {
            if !matches!(key, LinkKey::Device(peer) if core.is_linked(peer)) {
                wrong.push(format!("the link to {key:?} is Connected, and there is no connection"));
            }
        }
        let calm = self.nodes[place].calm_since + ANSWER_MS < self.now;
        if calm {
            wrong.extend(self.open_requests(place, ANSWER_MS).into_iter().map(|r| format!("never answered: {r}")));
            // the simulator's own side of the contract
            let dials = self.nodes[place].dialing.iter().filter(|(_, (_, at))| at + ANSWER_MS < self.now);
            wrong.extend(dials.map(|(op, _)| format!("the simulator did not answer the dial {op:?}")));
        }
        for text in wrong {
            self.violation(place, &text);
        }
    }

    /// Pairs with exactly one connection, and since when it works.
    pub(super) fn pairs(&self) -> BTreeMap<(usize, usize), (usize, u64)> {
        let mut pairs = BTreeMap::new();
        for pipe in self.pipes.values() {
            let [a, b] = &pipe.ends;
            if a.gone && b.gone {
                continue;
            }
            let entry = pairs.entry((a.node.min(b.node), a.node.max(b.node))).or_insert((0, 0));
            entry.0 += 1;
            entry.1 = entry.1.max(if pipe.lives() && !pipe.stalled { pipe.stable_since } else { u64::MAX });
        }
        pairs
    }

    /// Between two nodes that are connected and well, nothing waits for long.
    fn check_prompt(&mut self) {
        let since = self.now.saturating_sub(PROMPT_MS);
        let well = |place: usize| self.nodes[place].well(self.now, PROMPT_MS);
        let mut late = Vec::new();
        let pairs = self.pairs();
        for number in &self.ledger.open {
            let m = &self.ledger.messages[*number];
            if m.short || m.accepted_at.is_none_or(|t| t > since) || !well(m.from) {
                continue;
            }
            let Some(core) = &self.nodes[m.from].core else { continue };
            for device in core.deliveries(&self.ledger.ids[*number]) {
                let Some(to) = device.peer.and_then(|p| self.places.get(&p).copied()) else { continue };
                let pair = pairs.get(&(m.from.min(to), m.from.max(to)));
                if well(to) && pair.is_some_and(|(n, at)| *n == 1 && *at < since) {
                    late.push((m.from, format!("message {number} waits for n{to}, which is connected")));
                }
                let relay = (0..self.nodes.len()).find(|r| {
                    let known = self.now.saturating_sub(KNOWN_MS);
                    self.nodes[*r].well(self.now, KNOWN_MS) && super::failover::between(&pairs, m.from, *r, to, known)
                });
                if let Some(relay) = relay
                    && self.kept_apart(m.from, to)
                    && m.accepted_at.is_none_or(|t| t + KNOWN_MS < self.now)
                    && self.nodes[m.from].well(self.now, KNOWN_MS)
                    && self.nodes[to].well(self.now, KNOWN_MS)
                {
                    late.push((m.from, format!("message {number} waits for n{to}, although n{relay} is between them")));
                }
            }
        }
        for (place, text) in late.into_iter().take(3) {
            self.violation(place, &text);
        }
    }

    /// Whether all live nodes hang together.
    fn joined(&self) -> bool {
        let n = self.nodes.len();
        let mut near = vec![Vec::new(); n];
        for pipe in self.pipes.values().filter(|p| p.lives()) {
            let [x, y] = &pipe.ends;
            near[x.node].push(y.node);
            near[y.node].push(x.node);
        }
        let mut reached = vec![false; n];
        let mut next = vec![0];
        reached[0] = true;
        while let Some(a) = next.pop() {
            for b in &near[a] {
                if !std::mem::replace(&mut reached[*b], true) {
                    next.push(*b);
                }
            }
        }
        reached.iter().all(|r| *r)
    }

    /// Somebody else whom a node does not show as online, if there is one.
    fn missing(&self, place: usize) -> Option<(usize, String)> {
        let core = self.nodes[place].core.as_ref()?;
        let roster = core.roster(self.clock(place));
        let others = self.nodes.iter().filter(|o| o.user != self.nodes[place].user);
        for other in others {
            let at = roster.members.binary_search_by(|m| m.user.cmp(&other.user));
            let shown = at.ok().map(|i| &roster.members[i].reach);
            if shown.is_none_or(|reach| matches!(reach, Reach::Offline { .. })) {
                return Some((other.place, format!("shows n{} as offline: {shown:?}", other.place)));
            }
        }
        None
    }

    fn check_presence(&mut self, healed: u64) {
        if self.rest.right_at.is_none() && !(0..self.nodes.len()).any(|place| self.missing(place).is_some()) {
            self.rest.right_at = Some(self.now);
            self.stats.presence_right_after_ms = self.now - healed;
        }
        if !self.joined() {
            self.rest.joined_since = None;
            return;
        }
        let since = *self.rest.joined_since.get_or_insert(self.now);
        if self.now < (healed + PRESENCE_MS).max(since + PRESENCE_MS) {
            return;
        }
        // of many nodes each one now and then
        let step = (self.nodes.len() / AT_ONCE).max(1);
        let first = usize::try_from(self.now / 1_000).unwrap_or(0) % step;
        let wrong: Vec<_> = (first..self.nodes.len())
            .step_by(step)
            .filter_map(|place| self.missing(place).map(|(_, text)| (place, text)))
            .take(3)
            .collect();
        for (place, text) in wrong {
            self.violation(place, &text);
        }
    }

    /// Where nothing goes wrong nobody who is there is shown as gone, but for a moment.
    fn check_gray(&mut self) {
        if self.config.faults != Faults::None || self.nodes.len() > AT_ONCE || self.now < GRAY_FROM_MS {
            return;
        }
        for place in 0..self.nodes.len() {
            match self.missing(place) {
                None => self.rest.gray_since.remove(&place),
                Some((other, text)) => {
                    let (seen, since) = *self.rest.gray_since.entry(place).or_insert((other, self.now));
                    if seen != other {
                        self.rest.gray_since.insert(place, (other, self.now));
                    } else if since + GRAY_MS < self.now {
                        self.violation(place, &format!("{text}, for {} ms", self.now - since));
                    }
                    None
                }
            };
        }
    }

    /// Everything has healed and nothing waits: what is there then.
    fn check_rest(&mut self) {
        let mut wrong = Vec::new();
        for ((a, b), (n, _)) in self.pairs() {
            if n > 1 {
                wrong.push((a, format!("{n} connections to n{b} at rest")));
            }
        }
        let lives = self.pipes.values().filter(|p| p.lives()).map(|p| (p.ends[0].node, p.ends[1].node));
        let piped: BTreeSet<_> = lives.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        for a in 0..self.nodes.len() {
            let core = self.nodes[a].core.as_ref();
            let linked: BTreeSet<_> =
                core.iter().flat_map(|c| c.linked()).filter_map(|p| Some((a, *self.places.get(p)?))).collect();
            self.stats.links += linked.len() as u64;
            let there: BTreeSet<_> = piped.range((a, 0)..(a + 1, 0)).copied().collect();
            for (_, b) in linked.symmetric_difference(&there) {
                wrong.push((
                    a,
                    format!(
                        "believes to be connected to n{b}: {}; there is a connection: {}",
                        linked.contains(&(a, *b)),
                        there.contains(&(a, *b))
                    ),
                ));
            }
            wrong.extend(self.open_requests(a, ANSWER_MS).into_iter().map(|r| (a, format!("never answered: {r}"))));
            wrong.extend(self.check_idle_links(a).into_iter().map(|text| (a, text)));
            let (rows, mark) = (self.nodes[a].store.rows(), self.nodes[a].store.longest_mark());
            if mark > self.ledger.messages.len() || rows > self.ledger.messages.len() * 2 {
                wrong.push((a, format!("{rows} rows and marks of {mark} numbers are left")));
            }
        }
        for (place, text) in wrong {
            self.violation(place, &text);
        }
    }

    /// A link that is on its way has something that moves it.
    fn check_idle_links(&self, place: usize) -> Vec<String> {
        let node = &self.nodes[place];
        let Some(core) = &node.core else { return Vec::new() };
        let now = self.clock(place);
        let mut wrong = Vec::new();
        for (key, state) in core.links() {
            let LinkKey::Device(peer) = key else { continue };
            let Some(other) = self.places.get(peer).map(|p| &self.nodes[*p]) else { continue };
            let moving = matches!(state, LinkState::Discovering | LinkState::Signaling | LinkState::Connecting);
            let lookup = core.explain(now, &other.user).is_some_and(|e| e.outcome == LookupOutcome::Running);
            let dial = !node.dialing.is_empty() || node.approached.contains_key(&other.peer);
            if moving && !lookup && !dial {
                wrong.push(format!("link to n{} is {state:?} and nothing moves it", other.place));
            }
        }
        wrong
    }

    /// Time is up.
    fn unsettled(&mut self) {
        let open: Vec<_> = self.ledger.open.iter().copied().collect();
        for number in open.iter().take(3) {
            let m = &self.ledger.messages[*number];
            let (from, to, sent_at) = (m.from, m.to.clone(), m.sent_at);
            let devices = self.nodes[from].core.as_ref().map(|c| c.deliveries(&self.ledger.ids[*number]));
            let explain = self.nodes[from].core.as_ref().and_then(|c| c.explain(self.clock(from), &to));
            let text = format!("message {number} to {to:?} of {sent_at} ms is not delivered: {devices:?}; {explain:?}");
            self.violation(from, &text);
        }
        let unseen: Vec<_> = self.ledger.unseen.iter().take(3).copied().collect();
        for (number, place) in unseen {
            self.violation(place, &format!("message {number} is stored and the app has not seen it"));
        }
        if self.violations.is_empty() {
            self.violation(0, "nothing settles");
        }
    }
}
