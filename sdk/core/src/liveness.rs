//! When a silent link is dead: asked on demand, with one shared tick for idle links.

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
    idle_due: Option<Tick>,
}

impl Liveness {
    /// A connection is up.
    pub fn up(&mut self, conn: ConnId, now: Tick, tuning: &Tuning) {
        let pulse = Pulse { heard: now, waiting: None, probes: 0, pinged: BTreeMap::new(), rtt: None };
        self.pulses.insert(conn, pulse);
        self.idle_due.get_or_insert(now.plus(tuning.idle_tick));
    }

    /// A connection has ended.
    pub fn down(&mut self, conn: ConnId) {
        self.pulses.remove(&conn);
        if self.pulses.is_empty() {
            self.idle_due = None;
        }
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

    /// The last measured round trip.
    pub fn rtt(&self, conn: ConnId) -> Option<Duration> {
        self.pulses.get(&conn)?.rtt
    }

    /// What is due now.
    pub fn advance(&mut self, now: Tick, tuning: &Tuning, out: &mut Vec<Verdict>) {
        let idle = self.idle_due.is_some_and(|t| t <= now);
        if idle {
            self.idle_due = Some(now.plus(tuning.idle_tick));
        }
        let mut pings = Vec::new();
        for (conn, p) in &mut self.pulses {
            match p.waiting {
                Some(since) if now - since >= tuning.dead_after => out.push(Verdict::Dead(*conn)),
                Some(since) if now >= Self::probe_at(since, p.probes, tuning) => {
                    p.probes += 1;
                    pings.push(*conn);
                }
                None if idle && now - p.heard >= tuning.idle_tick => pings.push(*conn),
                _ => {}
            }
        }
        for conn in pings {
            let number = self.ping(conn, now);
            out.push(Verdict::Ping(conn, number));
        }
    }

    fn probe_at(since: Tick, probes: u32, tuning: &Tuning) -> Tick {
        since.plus(tuning.suspect_after).plus(tuning.probe_every * probes)
    }

    /// When [`Self::advance`] is due.
    pub fn deadline(&self, tuning: &Tuning) -> Option<Tick> {
        let suspects = self.pulses.values().filter_map(|p| {
            let since = p.waiting?;
            Some(Self::probe_at(since, p.probes, tuning).min(since.plus(tuning.dead_after)))
        });
        suspects.chain(self.idle_due).min()
    }
}

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
        l.up(ConnId(1), Tick(0), &tuning);
        l.wrote(ConnId(1), Tick(100));
        let log = run(&mut l, &tuning, 20_000);
        let times: Vec<_> = log.iter().map(|(t, _)| *t).collect();
        assert_eq!(times, [2_100, 4_100, 6_100, 8_100]);
        assert_eq!(log[3].1, Verdict::Dead(ConnId(1)));
    }

    #[test]
    fn any_frame_is_a_sign_of_life() {
        let (mut l, tuning) = (Liveness::default(), Tuning::default());
        l.up(ConnId(1), Tick(0), &tuning);
        l.wrote(ConnId(1), Tick(0));
        assert_eq!(run(&mut l, &tuning, 5_000).len(), 2);
        l.heard(ConnId(1), Tick(5_500));
        assert_eq!(run(&mut l, &tuning, 20_000), vec![]);
    }

    #[test]
    fn an_idle_link_costs_one_ping_per_tick() {
        let (mut l, tuning) = (Liveness::default(), Tuning::default());
        l.up(ConnId(1), Tick(0), &tuning);
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
