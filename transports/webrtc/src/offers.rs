//! Signalling sessions that are under way: limits, duplicates, and who wins when both dial.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::PeerId;

use crate::config::Config;
use crate::peer::ConnId;

/// No signal is older than this, so a session is not remembered for longer.
const SIGNAL_LIFE: Duration = Duration::from_secs(60);
/// Sessions that are remembered to tell a repeated OFFER from a new one.
const MAX_REMEMBERED: usize = 256;
/// Devices whose rate is kept.
const MAX_RATED: usize = 256;

/// An attempt: the device at the other end, and the id that the offerer chose.
pub(crate) type Session = (PeerId, Bytes);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Dialled,
    Accepted,
}

/// What to do with an OFFER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Answer it. Our own dial to the same device, if any, is superseded.
    Accept { superseded: Option<ConnId> },
    /// It was seen before.
    Duplicate,
    /// Our own OFFER wins.
    OursWins(ConnId),
    /// No room.
    Busy,
    /// Too many in too short a time; not even worth an answer.
    TooFast,
}

/// Why a dial cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialRefusal {
    /// The peer's OFFER is being answered.
    Superseded,
    /// We are dialling it already.
    Dialling,
}

#[derive(Debug)]
struct Rate {
    tokens: u32,
    filled: Instant,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Offers {
    me: PeerId,
    per_peer: usize,
    total: usize,
    interval: Duration,
    burst: u32,
    pending: HashMap<Session, (Side, ConnId)>,
    remembered: VecDeque<(Instant, Session)>,
    rates: BTreeMap<PeerId, Rate>,
    refused: u64,
}

impl Offers {
    pub(crate) fn new(me: PeerId, config: &Config) -> Self {
        Self {
            me,
            per_peer: config.offers_per_peer,
            total: config.offers,
            interval: config.offer_interval,
            burst: config.offer_burst.max(1),
            pending: HashMap::new(),
            remembered: VecDeque::new(),
            rates: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Enters our own attempt `id`.
    pub(crate) fn dial(&mut self, session: Session, id: ConnId) -> Result<(), DialRefusal> {
        let peer = session.0;
        match self.pending.iter().find(|((other, _), _)| *other == peer) {
            Some((_, (Side::Accepted, _))) => Err(DialRefusal::Superseded),
            Some((_, (Side::Dialled, _))) => Err(DialRefusal::Dialling),
            None => {
                self.pending.insert(session, (Side::Dialled, id));
                Ok(())
            }
        }
    }

    /// Judges an OFFER and, if it is accepted, enters it as attempt `id`.
    pub(crate) fn offer(&mut self, session: Session, id: ConnId, now: Instant) -> Admission {
        let peer = session.0;
        if self.is_known(&session, now) {
            return Admission::Duplicate;
        }
        if !self.take_token(peer, now) {
            self.refused += 1;
            return Admission::TooFast;
        }
        let ours = self
            .pending
            .iter()
            .find(|((other, _), (side, _))| *other == peer && *side == Side::Dialled)
            .map(|(session, (_, id))| (session.clone(), *id));
        if let Some((_, ours)) = ours
            && self.me < peer
        {
            return Admission::OursWins(ours);
        }
        let accepted = self.pending.iter().filter(|(_, (side, _))| *side == Side::Accepted);
        let (all, of_peer) =
            accepted.fold((0, 0), |(all, own), ((other, _), _)| (all + 1, own + usize::from(*other == peer)));
        if all >= self.total || of_peer >= self.per_peer {
            self.refused += 1;
            return Admission::Busy;
        }
        if let Some((session, _)) = &ours {
            self.pending.remove(session);
        }
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((now, session.clone()));
        self.pending.insert(session, (Side::Accepted, id));
        Admission::Accept { superseded: ours.map(|(_, id)| id) }
    }

    /// The attempt of this session, if it is pending; `dialled` picks the side.
    pub(crate) fn find(&self, session: &Session, dialled: bool) -> Option<ConnId> {
        let (side, id) = self.pending.get(session)?;
        ((*side == Side::Dialled) == dialled).then_some(*id)
    }

    /// The attempt became a connection, or ended.
    pub(crate) fn remove(&mut self, id: ConnId) {
        self.pending.retain(|_, (_, pending)| *pending != id);
    }

    /// Sessions that are pending.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// OFFERs refused by a limit.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    fn is_known(&mut self, session: &Session, now: Instant) -> bool {
        while self.remembered.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > SIGNAL_LIFE) {
            self.remembered.pop_front();
        }
        self.pending.contains_key(session) || self.remembered.iter().any(|(_, known)| known == session)
    }

    fn take_token(&mut self, peer: PeerId, now: Instant) -> bool {
        let (interval, burst) = (self.interval, self.burst);
        if !self.rates.contains_key(&peer) && self.rates.len() >= MAX_RATED {
            // a device that was quiet for a whole burst has nothing to remember
            self.rates.retain(|_, rate| now.saturating_duration_since(rate.filled) < interval * burst);
            if self.rates.len() >= MAX_RATED {
                return false;
            }
        }
        let rate = self.rates.entry(peer).or_insert(Rate { tokens: burst, filled: now });
        let earned = now.saturating_duration_since(rate.filled).as_nanos() / interval.as_nanos().max(1);
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            rate.tokens = rate.tokens.saturating_add(earned).min(burst);
            rate.filled = if rate.tokens == burst { now } else { rate.filled + interval * earned };
        }
        let granted = rate.tokens > 0;
        rate.tokens = rate.tokens.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn session(peer_number: u8, n: u32) -> Session {
        (peer(peer_number), Bytes::copy_from_slice(&n.to_be_bytes()))
    }

    fn offers(me: u8) -> Offers {
        Offers::new(peer(me), &Config { offer_burst: 4, ..Config::default() })
    }

    const ACCEPT: Admission = Admission::Accept { superseded: None };

    #[test]
    fn the_smaller_id_wins_on_both_sides() {
        let now = Instant::now();
        let mut small = offers(1);
        small.dial(session(2, 1), 10).unwrap();
        assert_eq!(small.offer(session(2, 2), 11, now), Admission::OursWins(10));
        assert_eq!(small.find(&session(2, 1), true), Some(10));

        let mut large = offers(2);
        large.dial(session(1, 2), 20).unwrap();
        assert_eq!(large.offer(session(1, 1), 21, now), Admission::Accept { superseded: Some(20) });
        assert_eq!(large.find(&session(1, 2), true), None);
        assert_eq!(large.find(&session(1, 1), false), Some(21));
        assert_eq!(large.dial(session(1, 3), 22), Err(DialRefusal::Superseded));
    }

    #[test]
    fn a_repeated_offer_is_a_duplicate_also_after_its_end() {
        let (mut offers, now) = (offers(1), Instant::now());
        assert_eq!(offers.offer(session(2, 1), 1, now), ACCEPT);
        assert_eq!(offers.offer(session(2, 1), 2, now), Admission::Duplicate);
        offers.remove(1);
        assert_eq!(offers.len(), 0);
        assert_eq!(offers.offer(session(2, 1), 3, now), Admission::Duplicate);
        let later = now + SIGNAL_LIFE + Duration::from_secs(1);
        assert_eq!(offers.offer(session(2, 1), 4, later), ACCEPT);
    }

    #[test]
    fn pending_offers_are_limited_per_peer_and_in_all() {
        let config = Config { offer_burst: 100, ..Config::default() };
        let (mut offers, now) = (Offers::new(peer(1), &config), Instant::now());
        let mut id = 0;
        let mut offer = |of, n| {
            id += 1;
            offers.offer(session(of, n), id, now)
        };
        (0..4).for_each(|n| assert_eq!(offer(2, n), ACCEPT));
        assert_eq!(offer(2, 4), Admission::Busy);
        (3..6).for_each(|of| (0..4).for_each(|n| assert_eq!(offer(of, n), ACCEPT)));
        assert_eq!(offer(9, 0), Admission::Busy);
        assert_eq!((offers.len(), offers.refused()), (16, 2));
    }

    #[test]
    fn a_device_earns_one_offer_a_second_after_its_burst() {
        let (mut offers, now) = (offers(1), Instant::now());
        let mut tries = |at, range: std::ops::Range<u32>| {
            range
                .filter(|n| {
                    let admission = offers.offer(session(2, *n), ConnId::from(*n), at);
                    offers.remove(ConnId::from(*n));
                    admission == ACCEPT
                })
                .count()
        };
        assert_eq!(tries(now, 0..10), 4);
        assert_eq!(tries(now + Duration::from_millis(2500), 10..20), 2);
        assert_eq!(tries(now + Duration::from_millis(3000), 20..30), 1);
        assert_eq!(tries(now + Duration::from_secs(50), 30..40), 4);
    }

    #[test]
    fn the_tables_are_bounded() {
        let (mut offers, now) = (offers(0), Instant::now());
        for n in 0..1000u32 {
            let mut key = [0xff; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            offers.offer((PeerId::from_bytes(key), Bytes::from_static(b"s")), ConnId::from(n), now);
            offers.remove(ConnId::from(n));
        }
        assert!(offers.rates.len() <= MAX_RATED && offers.remembered.len() <= MAX_REMEMBERED);
    }
}
