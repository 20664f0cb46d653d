use std::collections::BTreeMap;

use byway_api::{PeerId, WallTime};

use crate::digest::sha256_of_parts;

/// What one side of a link last told the other about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEntry {
    /// Sequence number of the device's record.
    pub record_seq: u64,
    /// When the told beacon was issued; zero without one.
    pub beacon_at: WallTime,
    /// The teller holds a live link to the device.
    pub link: bool,
}

/// The digest of `NetworkState`: the first 16 bytes of SHA-256 over what was told on a link, in the
/// order of the devices.
pub fn state_digest(told: &BTreeMap<PeerId, StateEntry>) -> [u8; 16] {
    let entries: Vec<[u8; 49]> = told
        .iter()
        .map(|(peer, entry)| {
            let mut bytes = [0; 49];
            bytes[..32].copy_from_slice(peer.as_bytes());
            bytes[32..40].copy_from_slice(&entry.record_seq.to_be_bytes());
            bytes[40..48].copy_from_slice(&entry.beacon_at.as_millis().to_be_bytes());
            bytes[48] = u8::from(entry.link);
            bytes
        })
        .collect();
    let parts: Vec<&[u8]> = entries.iter().map(<[u8; 49]>::as_slice).collect();
    let hash = sha256_of_parts(&parts);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    digest
}
