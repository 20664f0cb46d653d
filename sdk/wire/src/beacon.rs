use byway_api::{NetworkId, PeerId, WallTime};

use crate::{DeviceKey, Domain, WireError, verify};

/// A device's own word that it is there: a lease of [`limits::BEACON_LIFE`](crate::limits::BEACON_LIFE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beacon {
    /// The device.
    pub peer: PeerId,
    /// When it said so.
    pub at: WallTime,
    /// Over the network and `at`.
    pub signature: [u8; 64],
}

impl Beacon {
    /// Says that the device of `key` is there.
    pub fn sign(key: &DeviceKey, network: &NetworkId, at: WallTime) -> Self {
        Self { peer: key.peer(), at, signature: key.sign(Domain::Beacon, &input(network, at)) }
    }

    /// Checks the signature, not the time.
    ///
    /// # Errors
    /// [`WireError::BadSignature`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), WireError> {
        verify(&self.peer, Domain::Beacon, &input(network, self.at), &self.signature)
    }
}

fn input(network: &NetworkId, at: WallTime) -> Vec<u8> {
    let name = network.as_str().as_bytes();
    [&[name.len() as u8][..], name, &at.as_millis().to_be_bytes()].concat()
}
