//! Sealing a signal and finding something that carries it.

use std::collections::BTreeSet;

use byway_api::{MessageId, PeerId, Sealed, Signal, SignalAddress, SignalError, SignalErrorKind, SignalKind, WallTime};
use byway_core::io::AskError;
use byway_wire::{Body, Content, RelayStatus, VerifiedRecord, limits, seal};

use super::{NODE, Signals};
use crate::engine::letters::seal_key;
use crate::engine::runtime::{random, timeout};
use crate::engine::shared::Notice;

/// One thing that may carry a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// A neighbour that is connected to the device.
    Neighbour(PeerId),
    /// A carrier: a signalling socket, or one of the app's own.
    Socket { at: SignalAddress, home: bool },
}

fn error(kind: SignalErrorKind, text: impl Into<String>) -> SignalError {
    SignalError::new(kind, NODE, text)
}

impl Signals {
    /// Seals a signal for `to` and hands it to the first carrier that takes it.
    pub(super) async fn send(&self, to: PeerId, at: &SignalAddress, signal: Signal) -> Result<(), SignalError> {
        if self.stopped.is_raised() {
            return Err(error(SignalErrorKind::Closed, "the node stops"));
        }
        let known = self.shared.ask(|reply| Notice::Ways { to, reply }).await.unwrap_or_default();
        let now = self.shared.runtime.now().wall;
        let record = known.record.or_else(|| self.shared.records.newest(&to, now));
        let Some(record) = record else {
            return Err(error(SignalErrorKind::NoRecord, format!("no record of {to} is known")));
        };
        let kind = signal.kind;
        let mail = self.seal(&record, signal, now)?;
        let mut addresses = self.dialed_addresses(to);
        addresses.extend_from_slice(record.addresses());
        let homes = self.addresses().1;
        let ways = ways(kind, to, at, &known.neighbours, &addresses, &homes, |address| self.serves(address));
        let mut failed = error(SignalErrorKind::Unreachable, format!("nothing carries signals to {to}"));
        for way in ways {
            match timeout(self.shared.settings.carrier_wait, self.carry(&way, mail.clone())).await {
                Some(Ok(())) => {
                    tracing::trace!(target: "byway::signal", to = %to.short(), ?kind, ?way, "carried");
                    return Ok(());
                }
                Some(Err(e)) => {
                    tracing::debug!(target: "byway::signal", to = %to.short(), ?kind, ?way, error = %e, "not carried");
                    failed = e;
                }
                None => failed = error(SignalErrorKind::Unreachable, format!("{way:?} did not answer")),
            }
        }
        Err(failed)
    }

    fn seal(&self, to: &VerifiedRecord, signal: Signal, now: WallTime) -> Result<Sealed, SignalError> {
        let Some(key) = seal_key(to, now) else {
            return Err(error(SignalErrorKind::NoRecord, "every seal key of the device has ended"));
        };
        let no_random = |e: getrandom::Error| error(SignalErrorKind::LocalFault, "no random bytes").with_source(e);
        let me = self.shared.identity.me();
        let expires_at = now.plus(limits::SIGNAL_LIFE);
        let content = Content {
            network: me.network,
            message: MessageId::from_bytes(random().map_err(no_random)?),
            from_user: me.user,
            from_peer: me.peer,
            to_user: to.user().clone(),
            to_peer: to.peer(),
            sent_at: now,
            expires_at,
            reply_to: None,
            body: Body::Signal(signal),
            // So that one who has never heard of us can answer.
            sender_record: Some(me.record.bytes().clone()),
            seq: 0,
            epoch: 0,
            floor: 0,
        };
        let randomness = random().map_err(no_random)?;
        seal(&content, self.shared.identity.key(), to.peer(), key, expires_at, randomness)
            .map_err(|e| error(SignalErrorKind::Refused, "the signal cannot be sealed").with_source(e))
    }

    async fn carry(&self, way: &Way, mail: Sealed) -> Result<(), SignalError> {
        let counters = &self.shared.counters;
        match way {
            Way::Neighbour(hop) => {
                let hop = *hop;
                match self.shared.ask(|reply| Notice::Forward { hop, mail, reply }).await {
                    Some(Ok(RelayStatus::Forwarded)) => {
                        counters.neighbour_signals.add();
                        Ok(())
                    }
                    Some(Ok(RelayStatus::NotConnected)) => {
                        Err(error(SignalErrorKind::NoSuchPeer, "the neighbour is not connected to it"))
                    }
                    Some(Ok(status)) => Err(error(SignalErrorKind::Busy, format!("the neighbour answers {status:?}"))),
                    Some(Err(AskError::Busy)) => Err(error(SignalErrorKind::Busy, "the neighbour's queue is full")),
                    Some(Err(e)) => Err(error(SignalErrorKind::Unreachable, format!("the neighbour: {e:?}"))),
                    None => Err(error(SignalErrorKind::Unreachable, "the neighbour does not answer")),
                }
            }
            Way::Socket { at, home } => {
                let mut failed = error(SignalErrorKind::BadAddress, format!("no carrier serves {at}"));
                for carrier in self.carriers().filter(|carrier| carrier.serves(at)) {
                    match carrier.send(at, mail.clone()).await {
                        Ok(()) => {
                            if *home { &counters.registry_signals } else { &counters.listener_signals }.add();
                            return Ok(());
                        }
                        Err(e) => failed = e,
                    }
                }
                Err(failed)
            }
        }
    }
}

/// The order in which ways are tried. An answer goes back the way the offer came. An offer goes to
/// `at`, through mutual neighbours, over member listeners and by carriers with addresses of their own
/// first; a home, which is a server, is last even if it is `at`.
fn ways(
    kind: SignalKind,
    to: PeerId,
    at: &SignalAddress,
    neighbours: &[PeerId],
    addresses: &[SignalAddress],
    homes: &[SignalAddress],
    serves: impl Fn(&SignalAddress) -> bool,
) -> Vec<Way> {
    let way = |address: &SignalAddress| match address.via() {
        Some(hop) => (hop != to).then_some(Way::Neighbour(hop)),
        None if !address.is_socket() => serves(address).then(|| Way::Socket { at: address.clone(), home: false }),
        None => {
            let (base, _) = address.socket_parts()?;
            let home = homes.iter().any(|home| home.socket_parts().is_some_and(|(b, _)| b == base));
            Some(Way::Socket { at: address.clone(), home })
        }
    };
    let is_home = |way: &Way| matches!(way, Way::Socket { home: true, .. });
    let first = way(at);
    let last = kind == SignalKind::Offer && first.as_ref().is_some_and(is_home);
    let mut ordered = Vec::new();
    ordered.extend(first.clone().filter(|_| !last));
    ordered.extend(neighbours.iter().copied().map(Way::Neighbour));
    let (home, other): (Vec<_>, Vec<_>) = addresses.iter().filter_map(way).partition(is_home);
    ordered.extend(other);
    ordered.extend(first.filter(|_| last));
    ordered.extend(home);
    let mut seen = BTreeSet::new();
    ordered.retain(|way| {
        seen.insert(match way {
            Way::Neighbour(hop) => SignalAddress::through(*hop),
            Way::Socket { at, .. } => at.clone(),
        })
    });
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn socket(host: &str, n: u8) -> SignalAddress {
        SignalAddress::socket(&format!("ws://{host}"), peer(n)).unwrap()
    }

    fn texts(ways: &[Way]) -> Vec<String> {
        let text = |way: &Way| match way {
            Way::Neighbour(hop) => format!("neighbour {}", hop.as_bytes()[0]),
            Way::Socket { at, home } => {
                let base = at.socket_parts().map_or(at.as_str(), |(base, _)| base);
                format!("{base}{}", if *home { " home" } else { "" })
            }
        };
        ways.iter().map(text).collect()
    }

    #[test]
    fn an_offer_goes_by_neighbours_then_listeners_and_a_server_last() {
        let homes = [socket("registry", 1)];
        let addresses = [socket("registry", 9), socket("listener", 9), SignalAddress::through(peer(5))];
        let order = ways(SignalKind::Offer, peer(9), &addresses[0], &[peer(4)], &addresses, &homes, |_| false);
        assert_eq!(texts(&order), ["neighbour 4", "ws://listener", "neighbour 5", "ws://registry home"]);
    }

    #[test]
    fn an_address_that_is_no_server_is_tried_first() {
        let homes = [socket("registry", 1)];
        let addresses = [socket("registry", 9), socket("listener", 9)];
        let order = ways(SignalKind::Offer, peer(9), &addresses[1], &[peer(4)], &addresses, &homes, |_| false);
        assert_eq!(texts(&order), ["ws://listener", "neighbour 4", "ws://registry home"]);
    }

    #[test]
    fn an_answer_goes_back_the_way_the_offer_came() {
        let homes = [socket("registry", 1)];
        let (back, addresses) = (socket("registry", 9), [socket("listener", 9)]);
        let order = ways(SignalKind::Answer, peer(9), &back, &[peer(4)], &addresses, &homes, |_| false);
        assert_eq!(texts(&order), ["ws://registry home", "neighbour 4", "ws://listener"]);
    }

    #[test]
    fn a_carrier_is_asked_for_the_addresses_that_it_serves() {
        let addresses = [SignalAddress::new("hub:9").unwrap(), SignalAddress::new("mem:9").unwrap()];
        let to_itself = SignalAddress::through(peer(9));
        let serves = |address: &SignalAddress| address.scheme() == "hub";
        let order = ways(SignalKind::Offer, peer(9), &to_itself, &[], &addresses, &[], serves);
        assert_eq!(texts(&order), ["hub:9"]);
    }
}
