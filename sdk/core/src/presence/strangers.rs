//! Devices that neighbours speak of and whose records are not known yet.

use std::collections::BTreeMap;
use std::time::Duration;

use byway_api::PeerId;
use byway_wire::{Presence as Entry, limits};

use crate::machine::Tick;

/// Who was asked for a record has this long to send it, before somebody else is.
const ANSWER: Duration = Duration::from_secs(15);
/// Neighbours whose words on one stranger are kept.
const WORDS: usize = 8;

#[derive(Debug, Default)]
struct Stranger {
    /// The newest words of the neighbours, and when they were heard.
    words: Vec<(PeerId, Entry, Tick)>,
    asked: Option<(PeerId, Tick)>,
}

/// Devices without a record, and records that are old.
///
/// A frame makes no member: what is said of a device waits here, bounded, until its record is there.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<PeerId, Stranger>);

impl Strangers {
    /// A neighbour speaks of a device. Returns whether it should be asked for the record.
    pub(super) fn heard(&mut self, from: PeerId, entry: &Entry, now: Tick) -> bool {
        if self.0.len() >= limits::NEW_MEMBERS_PER_HOUR && !self.0.contains_key(&entry.peer) {
            return false;
        }
        let stranger = self.0.entry(entry.peer).or_default();
        if let Some(word) = stranger.words.iter_mut().find(|(p, ..)| *p == from) {
            *word = (from, *entry, now);
        } else if stranger.words.len() < WORDS {
            stranger.words.push((from, *entry, now));
        }
        let ask = stranger.asked.is_none_or(|(_, at)| now - at >= ANSWER);
        if ask {
            stranger.asked = Some((from, now));
        }
        ask
    }

    /// The device's record is known: what was said of it, and the time since.
    pub(super) fn met(&mut self, peer: &PeerId, now: Tick) -> Vec<(PeerId, Entry)> {
        let words = self.0.remove(peer).map_or_else(Vec::new, |s| s.words);
        let aged = |(from, entry, at): (PeerId, Entry, Tick)| {
            let held = u32::try_from((now - at).as_secs()).unwrap_or(u32::MAX);
            (from, Entry { age_s: entry.age_s.saturating_add(held), ..entry })
        };
        words.into_iter().map(aged).collect()
    }

    /// A neighbour is gone, and its words with it.
    pub(super) fn forget(&mut self, from: &PeerId) {
        self.0.retain(|_, s| {
            s.words.retain(|(p, ..)| p != from);
            !s.words.is_empty()
        });
    }

    /// Questions that were not answered: whom to ask now, for what.
    pub(super) fn overdue(&mut self, now: Tick) -> Vec<(PeerId, PeerId)> {
        let mut asks = Vec::new();
        for (peer, stranger) in &mut self.0 {
            let Some((last, at)) = stranger.asked else { continue };
            if now - at >= ANSWER {
                let next = stranger.words.iter().map(|(p, ..)| *p).find(|p| *p > last);
                let Some(next) = next.or(stranger.words.first().map(|(p, ..)| *p)) else { continue };
                stranger.asked = Some((next, now));
                asks.push((next, *peer));
            }
        }
        asks
    }
}
