//! When a silent link is dead: asked on demand. Idle links carry a digest on a shared tick, and only a
//! neighbour that omits it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machine::{ConnId, Tick};
use crate::tuning::Tuning;

#[derive(Debug)]
struct Pulse {
    heard: Tick,
    /// The oldest write since then that the peer has to answer.
    waiting: Option<Tick>,
    probes: u32,
    pinged: BTreeMap<u64, Tick>,
    rtt: Option<Duration>,
}

/// What to do about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send a Ping with this number.
    Ping(ConnId, u64),
    /// It is dead.
    Dead(ConnId),
}

/// Signs of life of all connections.
#[derive(Debug, Default)]
pub struct Liveness {
    pulses: BTreeMap<ConnId, Pulse>,
    next_ping: u64,
}

impl Liveness {
    /// A connection is up.
    pub fn up(&mut self, conn: ConnId, now: Tick) {
        let pulse = Pulse { heard: now, waiting: None, probes: 0, pinged: BTreeMap::new(), rtt: None };
        self.pulses.insert(conn, pulse);
    }

    /// A connection has ended.
    pub fn down(&mut self, conn: ConnId) {
        self.pulses.remove(&conn);
    }

    /// Something arrived.
    pub fn heard(&mut self, conn: ConnId, now: Tick) {
        if let Some(p) = self.pulses.get_mut(&conn) {
            p.heard = now;
            p.waiting = None;
            p.probes = 0;
        }
    }

    /// Something was written that the peer has to answer.
    pub fn wrote(&mut self, conn: ConnId, now: Tick) {
        if let Some(p) = self.pulses.get_mut(&conn) {
            p.waiting.get_or_insert(now);
        }
    }

    /// A number for a Ping to be written now.
    pub fn ping(&mut self, conn: ConnId, now: Tick) -> u64 {
        self.next_ping += 1;
        if let Some(p) = self.pulses.get_mut(&conn) {
            p.waiting.get_or_insert(now);
            p.pinged.insert(self.next_ping, now);
            while p.pinged.len() > 8 {
                p.pinged.pop_first();
            }
        }
        self.next_ping
    }

    /// A Pong arrived; its round trip, if the number is one of ours.
    pub fn pong(&mut self, conn: ConnId, number: u64, now: Tick) -> Option<Duration> {
        let p = self.pulses.get_mut(&conn)?;
        let sent = p.pinged.remove(&number)?;
        p.rtt = Some(now - sent);
        p.rtt
    }

    /// When something was last heard.
    pub fn last_heard(&self, conn: ConnId) -> Option<Tick> {
        self.pulses.get(&conn).map(|p| p.heard)
    }

    /// The last measured round trip.
    pub fn rtt(&self, conn: ConnId) -> Option<Duration> {
        self.pulses.get(&conn)?.rtt
    }

    /// What is due now.
    ///
    /// When a link turns suspect the others that have been silent are asked too: only if somebody
    /// answers is it the peer that is gone. If nobody does, they are all dead at once, and it is us.
    pub fn advance(&mut self, now: Tick, tuning: &Tuning, out: &mut Vec<Verdict>) {
        let (latest, all_due) = (self.latest(), self.all_due(tuning));
        let few = self.pulses.len() < FEW;
        let mut pings = Vec::new();
        let mut suspicion = false;
        for (conn, p) in &mut self.pulses {
            match p.waiting {
                Some(since) if now - since >= tuning.dead_after && (few || latest >= since || all_due <= now) => {
                    out.push(Verdict::Dead(*conn));
                }
                Some(since) if now >= Self::probe_at(since, p.probes, tuning) => {
                    suspicion |= p.probes == 0;
                    p.probes += 1;
                    pings.push(*conn);
                }
                None if now - p.heard >= Self::silence(tuning) => pings.push(*conn),
                _ => {}
            }
        }
        if suspicion {
            let silent = |p: &Pulse| p.waiting.is_none() && now - p.heard >= tuning.suspect_after;
            let silent = self.pulses.iter().filter(|(conn, p)| silent(p) && !pings.contains(conn));
            let silent: Vec<_> = silent.map(|(conn, _)| *conn).collect();
            pings.extend(silent);
        }
        for conn in pings {
            let number = self.ping(conn, now);
            out.push(Verdict::Ping(conn, number));
        }
    }

    /// When something was heard from anybody.
    fn latest(&self) -> Tick {
        self.pulses.values().map(|p| p.heard).max().unwrap_or_default()
    }

    /// When all links would be dead, if nothing more is heard.
    fn all_due(&self, tuning: &Tuning) -> Tick {
        let due = |p: &Pulse| p.waiting.unwrap_or_else(|| p.heard.plus(Self::silence(tuning))).plus(tuning.dead_after);
        self.pulses.values().map(due).max().unwrap_or_default()
    }

    /// Every neighbour says something on its own tick: one that has not for so long is asked.
    fn silence(tuning: &Tuning) -> Duration {
        tuning.idle_tick + tuning.suspect_after / 2
    }

    fn probe_at(since: Tick, probes: u32, tuning: &Tuning) -> Tick {
        since.plus(tuning.suspect_after).plus(tuning.probe_every * probes)
    }

    /// When [`Self::advance`] is due.
    pub fn deadline(&self, tuning: &Tuning) -> Option<Tick> {
        let (latest, all_due) = (self.latest(), self.all_due(tuning));
        let few = self.pulses.len() < FEW;
        let due = |p: &Pulse| match p.waiting {
            Some(since) => {
                let dead = since.plus(tuning.dead_after);
                let dead = if few || latest >= since { dead } else { dead.max(all_due) };
                Self::probe_at(since, p.probes, tuning).min(dead)
            }
            None => p.heard.plus(Self::silence(tuning)),
        };
        self.pulses.values().map(due).min()
    }
}

/// With fewer links the silence of all of them says nothing about us.
const FEW: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the machine to `until` and logs what it says.
    fn run(l: &mut Liveness, tuning: &Tuning, until: u64) -> Vec<(u64, Verdict)> {
        let mut log = vec![];
        while let Some(t) = l.deadline(tuning).filter(|t| t.0 <= until) {
            let mut out = vec![];
            l.advance(t, tuning, &mut out);
            for v in out {
                if let Verdict::Dead(c) = v {
                    l.down(c);
                }
                log.push((t.0, v));
            }
        }
        log
    }

    #[test]
    fn an_unanswered_write_is_probed_three_times_and_then_dead() {
        let (mut l, tuning) = (Liveness::default(), Tuning::default());
        l.up(ConnId(1), Tick(0));
        l.wrote(ConnId(1), Tick(100));
        let log = run(&mut l, &tuning, 20_000);
        let times: Vec<_> = log.iter().map(|(t, _)| *t).collect();
        assert_eq!(times, [2_100, 4_100, 6_100, 8_100]);
        assert_eq!(log[3].1, Verdict::Dead(ConnId(1)));
    }

    #[test]
    fn any_frame_is_a_sign_of_life() {
        let (mut l, tuning) = (Liveness::default(), Tuning::default());
        l.up(ConnId(1), Tick(0));
        l.wrote(ConnId(1), Tick(0));
        assert_eq!(run(&mut l, &tuning, 5_000).len(), 2);
        l.heard(ConnId(1), Tick(5_500));
        assert_eq!(run(&mut l, &tuning, 20_000), vec![]);
    }

    #[test]
    fn a_neighbour_that_says_nothing_by_itself_is_asked() {
        let (mut l, tuning) = (Liveness::default(), Tuning::default());
        l.up(ConnId(1), Tick(0));
        let mut pings = 0;
        while let Some(t) = l.deadline(&tuning).filter(|t| t.0 <= 250_000) {
            let mut out = vec![];
            l.advance(t, &tuning, &mut out);
            for v in out {
                let Verdict::Ping(c, n) = v else { panic!("dead") };
                assert!(l.pong(c, n, t.plus(Duration::from_millis(30))).is_some());
                l.heard(c, t.plus(Duration::from_millis(30)));
                pings += 1;
            }
        }
        assert!((5..=10).contains(&pings), "{pings}");
    }
}
