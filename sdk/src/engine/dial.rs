//! Connecting to one device: which transport takes which address, and who goes first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use byway_api::{Endpoint, Instance, PeerId, Retry, SignalAddress, TransportErrorKind};
use byway_core::OpId;
use byway_core::io::DialError;
use byway_wire::Role;
use byway_wire::limits;

use super::handshake::{Established, HalfOpen, Over, hello};
use super::ops::Ended;
use super::runtime::timeout;
use super::shared::Shared;
use super::signals::Signals;

/// A bound transport.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) endpoint: Arc<dyn Endpoint>,
    pub(super) over: Over,
    pub(super) needs_signaling: bool,
}

/// What every dial needs.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) shared: Arc<Shared>,
    pub(super) signals: Arc<Signals>,
    pub(super) gate: Arc<HalfOpen>,
    pub(super) instance: Instance,
    pub(super) bound: Arc<[Bound]>,
}

impl Dialer {
    /// Tries the ways, the preferred transport first, until one connects. Dropping the future aborts
    /// every attempt.
    pub(super) async fn dial(self, op: OpId, peer: PeerId, addresses: Vec<SignalAddress>) -> Ended {
        let ways = ways(&self.bound, peer, &addresses, |address| self.signals.serves(address));
        let limit = self.shared.settings.dial_wait + limits::HELLO_TIMEOUT;
        let attempt = {
            let _dialing = self.signals.dialing(op, peer, addresses);
            timeout(limit, self.attempt(peer, &ways)).await
        };
        let result = attempt.unwrap_or_else(|| Err(failure(Retry::Later, "no connection in time")));
        if let Err(error) = &result {
            tracing::debug!(target: "byway::link", peer = %peer.short(), why = %error.text, "dial failed");
        }
        Ended::Dialed(result.map(Box::new))
    }

    /// Each way has a head start over the next one; one that fails gives way at once. So a transport
    /// that hears nothing costs the head start and not its own connect timeout.
    async fn attempt(&self, peer: PeerId, ways: &[(usize, SignalAddress)]) -> Result<Established, DialError> {
        let mut waiting = ways.iter();
        let mut racing = Race::default();
        let mut failures = Failures::default();
        loop {
            if let Some((transport, address)) = waiting.next() {
                let (bound, wait) = (&self.bound[*transport], self.shared.settings.dial_wait);
                racing.enter(
                    async move { (bound.over, address, timeout(wait, bound.endpoint.dial(peer, address)).await) },
                );
            }
            let ended = match waiting.len() {
                0 => racing.next().await,
                _ => match timeout(self.shared.settings.dial_head_start, racing.next()).await {
                    Some(ended) => ended,
                    None => continue,
                },
            };
            let Some((over, address, dialled)) = ended else { return Err(failures.together()) };
            match dialled {
                None => failures.add(address, Retry::Later, "no connection in time"),
                Some(Err(error)) if error.kind() == TransportErrorKind::Superseded => {
                    return Err(DialError { superseded: true, ..failure(Retry::Later, &error.to_string()) });
                }
                Some(Err(error)) => failures.add(address, error.retry(), &error.to_string()),
                Some(Ok(connection)) => {
                    let Some(place) = HalfOpen::enter(&self.gate, &connection.path()) else {
                        self.shared.counters.half_open_refused.add();
                        return Err(failure(Retry::Later, "too many connections are half open"));
                    };
                    match hello(&self.shared, place, self.instance, connection, over, Role::Dialer, Some(peer)).await {
                        Ok(established) => return Ok(established),
                        Err(error) => failures.add(address, error.retry, &error.text),
                    }
                }
            }
        }
    }
}

/// Futures of which the first to end counts. Dropping the race drops them all.
struct Race<'a, T>(Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<T> Default for Race<'_, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> Race<'a, T> {
    fn enter(&mut self, attempt: impl Future<Output = T> + Send + 'a) {
        self.0.push(Box::pin(attempt));
    }

    /// The next one that ends, `None` if nobody runs. Cancel-safe.
    async fn next(&mut self) -> Option<T> {
        if self.0.is_empty() {
            return None;
        }
        std::future::poll_fn(|cx| {
            for (i, attempt) in self.0.iter_mut().enumerate() {
                if let Poll::Ready(ended) = attempt.as_mut().poll(cx) {
                    drop(self.0.remove(i));
                    return Poll::Ready(Some(ended));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Why no way led to the peer.
#[derive(Default)]
struct Failures {
    retry: Option<Retry>,
    texts: Vec<String>,
}

impl Failures {
    fn add(&mut self, address: &SignalAddress, retry: Retry, why: &str) {
        self.retry = Some(worse(self.retry, retry));
        self.texts.push(format!("{address}: {why}"));
    }

    fn together(self) -> DialError {
        match self.retry {
            Some(retry) => failure(retry, &self.texts.join("; ")),
            None => failure(Retry::Never, "no transport takes these addresses"),
        }
    }
}

fn failure(retry: Retry, text: &str) -> DialError {
    DialError { retry, superseded: false, text: text.to_owned() }
}

/// What several failures together say about the peer: it is our own fault only if all of them were.
const fn worse(so_far: Option<Retry>, next: Retry) -> Retry {
    match (so_far, next) {
        (Some(Retry::Later), _) | (_, Retry::Later) => Retry::Later,
        (Some(Retry::Never), _) | (_, Retry::Never) => Retry::Never,
        (_, other) => other,
    }
}

/// The attempts for `addresses`: the preferred transport first, and with each transport the
/// addresses in their order. A signalling address goes to each transport that needs signalling,
/// once: the signal port knows the other ways itself. Transports know sockets and neighbours; in
/// place of an address that only a carrier understands they are given the device.
fn ways(
    bound: &[Bound],
    peer: PeerId,
    addresses: &[SignalAddress],
    carried: impl Fn(&SignalAddress) -> bool,
) -> Vec<(usize, SignalAddress)> {
    let mut ways = Vec::new();
    for (i, transport) in bound.iter().enumerate() {
        let mut signalled = false;
        for address in addresses {
            let own = transport.over.transport == address.scheme();
            let carried = !own && !address.is_signalling() && carried(address);
            let takes = match address.is_signalling() || carried {
                true => transport.needs_signaling && !std::mem::replace(&mut signalled, true),
                false => own,
            };
            if takes {
                ways.push((i, if carried { SignalAddress::through(peer) } else { address.clone() }));
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway_api::{Connection, Incoming, TransportError, async_trait};

    #[derive(Debug)]
    struct Nowhere;

    #[async_trait]
    impl Endpoint for Nowhere {
        fn addresses(&self) -> Vec<SignalAddress> {
            Vec::new()
        }
        async fn dial(&self, _: PeerId, _: &SignalAddress) -> Result<Arc<dyn Connection>, TransportError> {
            Err(TransportError::new(TransportErrorKind::Timeout, "nowhere", ""))
        }
        async fn next(&self) -> Option<Incoming> {
            None
        }
        async fn close(&self) {}
    }

    fn bound(transport: &'static str, needs_signaling: bool) -> Bound {
        let over = Over { rank: 0, transport, max_frame: 65_536 };
        Bound { endpoint: Arc::new(Nowhere), over, needs_signaling }
    }

    #[test]
    fn each_transport_gets_the_addresses_that_it_takes_in_order_of_preference() {
        let bound = [bound("webrtc", true), bound("mem", false), bound("other", true)];
        let address = |text: &str| text.parse::<SignalAddress>().unwrap();
        let addresses = [address("ws://a/x"), address("mem:7"), address("ws://b/x"), address("tcp:1")];
        let none = |_: &SignalAddress| false;
        let ways: Vec<_> = ways(&bound, PeerId::from_bytes([1; 32]), &addresses, none)
            .into_iter()
            .map(|(i, a)| (i, a.to_string()))
            .collect();
        assert_eq!(ways, [(0, "ws://a/x".to_owned()), (1, "mem:7".to_owned()), (2, "ws://a/x".to_owned())]);
    }

    #[test]
    fn only_faults_of_our_own_are_our_own_fault() {
        assert_eq!(worse(None, Retry::LocalFault), Retry::LocalFault);
        assert_eq!(worse(Some(Retry::LocalFault), Retry::Later), Retry::Later);
        assert_eq!(worse(Some(Retry::Later), Retry::LocalFault), Retry::Later);
        assert_eq!(worse(Some(Retry::Never), Retry::LocalFault), Retry::Never);
    }
}
