//! Numbers of a node at one moment.

use std::fmt;
use std::time::Duration;

use byway_core::view::CoreMetrics;

use crate::engine::EngineMetrics;

/// Numbers of a node since it started. The success metrics are methods; the counts behind them are
/// fields.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// For how long the node has been running.
    pub uptime: Duration,
    /// What was sent, received, looked up and connected.
    pub core: CoreMetrics,
    /// Calls to a registry: announcements, lookups, pages, proof retries and socket connects.
    pub registry_calls: u64,
    /// Calls to a registry that were not made because the budget was used up.
    pub registry_refused: u64,
    /// Signals over a registry's open socket; they cost no call.
    pub registry_signals: u64,
    /// Signals through a neighbour.
    pub neighbour_signals: u64,
    /// Signals over a member's listener.
    pub listener_signals: u64,
    /// Carried envelopes that were dropped: unreadable, too old, seen before, from the blocked.
    pub signals_dropped: u64,
    /// Connections that did not prove to be a member's.
    pub handshakes_failed: u64,
    /// Transactions that reached the disk durably.
    pub durable_commits: u64,
}

impl Metrics {
    pub(crate) fn new(uptime: Duration, engine: EngineMetrics) -> Self {
        Self {
            uptime,
            core: engine.core,
            registry_calls: engine.registry_calls,
            registry_refused: engine.registry_refused,
            registry_signals: engine.registry_signals,
            neighbour_signals: engine.neighbour_signals,
            listener_signals: engine.listener_signals,
            signals_dropped: engine.signals_dropped,
            handshakes_failed: engine.handshakes_failed,
            durable_commits: engine.durable_commits,
        }
    }

    /// Registry calls per minute since the start, the first minute counted in full. Wanted: below 1.
    pub fn registry_calls_per_minute(&self) -> f64 {
        let minutes = self.uptime.max(Duration::from_secs(60)).as_secs_f64() / 60.0;
        self.registry_calls as f64 / minutes
    }

    /// The share of lookups that ended with a connection within 2 s. Wanted: above 0.9. `None` before
    /// the first lookup.
    pub fn connected_within_2s(&self) -> Option<f64> {
        share(self.core.lookups_connected_within_2s, self.core.lookups)
    }

    /// The share of sent messages that were delivered within 5 s. Wanted: above 0.95. `None` before
    /// the first message.
    pub fn delivered_within_5s(&self) -> Option<f64> {
        share(self.core.delivered_within_5s, self.core.sent)
    }

    /// The share of connections, now, that go from device to device. Wanted: above 0.7. `None` while
    /// there is no connection.
    pub fn direct_rate(&self) -> Option<f64> {
        share(self.core.links_direct as u64, self.core.links as u64)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{:.0} %", 100.0 * s));
        writeln!(f, "registry calls per minute   {:.2}", self.registry_calls_per_minute())?;
        writeln!(f, "connected within 2 s        {}", percent(self.connected_within_2s()))?;
        writeln!(f, "delivered within 5 s        {}", percent(self.delivered_within_5s()))?;
        write!(f, "direct connections          {} of {}", percent(self.direct_rate()), self.core.links)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_success_metrics_are_shares_of_what_happened() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.delivered_within_5s(), None);
        assert_eq!(metrics.direct_rate(), None);
        metrics.core.sent = 4;
        metrics.core.delivered_within_5s = 3;
        metrics.core.lookups = 2;
        metrics.core.links = 2;
        metrics.core.links_direct = 2;
        assert_eq!(metrics.delivered_within_5s(), Some(0.75));
        assert_eq!(metrics.connected_within_2s(), Some(0.0));
        assert_eq!(metrics.direct_rate(), Some(1.0));
        let text = metrics.to_string();
        assert!(text.contains("delivered within 5 s        75 %"), "{text}");
    }

    #[test]
    fn a_young_node_is_not_punished_for_its_first_call() {
        let mut metrics = Metrics { registry_calls: 1, uptime: Duration::from_secs(1), ..Metrics::default() };
        assert_eq!(metrics.registry_calls_per_minute(), 1.0);
        metrics.uptime = Duration::from_secs(600);
        assert_eq!(metrics.registry_calls_per_minute(), 0.1);
    }
}
