use byway_api::{Carrier, Handoff, PeerId, Relay, RelayError, RelayErrorKind, Sealed, async_trait};

const NAME: &str = "peers";

/// The built-in [`Relay`]: sealed messages go one hop, by way of a neighbour that both members have.
///
/// Every member forwards for the others by default, within the quotas of the protocol; no server and
/// no volunteer is needed. It keeps no mail.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerRelay {
    for_nobody: bool,
}

impl PeerRelay {
    /// Sends by way of others and forwards for others.
    pub const fn new() -> Self {
        Self { for_nobody: false }
    }

    /// Sends by way of others and forwards for nobody: for a device whose traffic is dear.
    pub const fn for_nobody() -> Self {
        Self { for_nobody: true }
    }
}

#[async_trait]
impl Relay for PeerRelay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn admit(&self, _from: PeerId, mail: &Sealed) -> Result<(), RelayError> {
        if self.for_nobody {
            return Err(RelayError::new(RelayErrorKind::Refused, NAME, "this device forwards for nobody"));
        }
        if mail.envelope.is_empty() {
            return Err(RelayError::new(RelayErrorKind::Refused, NAME, "an empty envelope"));
        }
        Ok(())
    }

    async fn forward(&self, by: &dyn Carrier, hop: PeerId, mail: Sealed) -> Result<Handoff, RelayError> {
        by.hand_over(hop, mail).await
    }
}

#[cfg(test)]
mod tests {
    use byway_api::Bytes;

    use super::*;

    fn mail() -> Sealed {
        Sealed { to: PeerId::from_bytes([2; 32]), envelope: Bytes::from_static(b"sealed") }
    }

    #[test]
    fn whether_it_forwards_for_others_is_the_devices_choice() {
        let from = PeerId::from_bytes([1; 32]);
        assert!(PeerRelay::new().admit(from, &mail()).is_ok());
        let refused = PeerRelay::for_nobody().admit(from, &mail()).unwrap_err();
        assert_eq!(refused.kind(), RelayErrorKind::Refused);
    }

    #[tokio::test]
    async fn it_keeps_no_mail() {
        let relay = PeerRelay::new();
        assert_eq!(relay.hold(mail()).await.unwrap_err().kind(), RelayErrorKind::NotHolding);
        let fetched = relay.fetch(PeerId::from_bytes([2; 32]), 0, 1_024).await;
        assert_eq!(fetched.unwrap_err().kind(), RelayErrorKind::NotHolding);
        assert_eq!(relay.release(&[]).await.unwrap_err().kind(), RelayErrorKind::NotHolding);
    }
}
