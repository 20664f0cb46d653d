//! Signalling inside the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use byway_api::{
    BindContext, NetworkId, PeerId, Signal, SignalAddress, SignalError, SignalErrorKind, SignalIn, SignalPort,
};
use tokio::sync::mpsc;

/// Hands signals from one port to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    inboxes: Arc<Mutex<HashMap<PeerId, mpsc::Sender<SignalIn>>>>,
}

#[derive(Debug)]
struct Port {
    me: PeerId,
    exchange: Exchange,
    inbox: tokio::sync::Mutex<mpsc::Receiver<SignalIn>>,
}

impl Exchange {
    /// What an endpoint of the device is bound with.
    pub(crate) fn context(&self, me: PeerId) -> BindContext {
        let (sender, receiver) = mpsc::channel(1024);
        self.inboxes.lock().unwrap().insert(me, sender);
        let port = Port { me, exchange: self.clone(), inbox: tokio::sync::Mutex::new(receiver) };
        BindContext::new(me, NetworkId::new("bench").unwrap()).with_signals(Arc::new(port))
    }
}

pub(crate) fn peer(n: u32) -> PeerId {
    let mut key = [1; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PeerId::from_bytes(key)
}

pub(crate) fn address(of: PeerId) -> SignalAddress {
    SignalAddress::socket("ws://127.0.0.1:1", of).unwrap()
}

#[async_trait]
impl SignalPort for Port {
    async fn send(&self, to: PeerId, _: &SignalAddress, signal: Signal) -> Result<(), SignalError> {
        let inbox = self.exchange.inboxes.lock().unwrap().get(&to).cloned();
        let inbox = inbox.ok_or_else(|| SignalError::new(SignalErrorKind::NoSuchPeer, "bench", ""))?;
        inbox
            .send(SignalIn::new(self.me, address(self.me), signal))
            .await
            .map_err(|_| SignalError::new(SignalErrorKind::Unreachable, "bench", ""))
    }

    async fn next(&self) -> Option<SignalIn> {
        self.inbox.lock().await.recv().await
    }
}
