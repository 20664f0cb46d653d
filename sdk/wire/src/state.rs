use byway_api::WallTime;

use crate::digest::sha256_of_parts;
use crate::frame::Presence;

/// The digest of `NetworkState` goes on from `before` (zero at a full state) over what is told now: the
/// first 16 bytes of SHA-256 over `before` and, for each entry in order, device, record number, time of
/// the beacon (zero without one) and link.
///
/// It costs what is told and not what was ever told, and neither side has to keep that.
pub fn state_digest(before: [u8; 16], told: &[Presence]) -> [u8; 16] {
    if told.is_empty() {
        return before;
    }
    let mut bytes = Vec::with_capacity(16 + told.len() * 49);
    bytes.extend_from_slice(&before);
    for entry in told {
        let beacon_at = entry.beacon.map_or(WallTime::default(), |b| b.at);
        bytes.extend_from_slice(entry.peer.as_bytes());
        bytes.extend_from_slice(&entry.record_seq.to_be_bytes());
        bytes.extend_from_slice(&beacon_at.as_millis().to_be_bytes());
        bytes.push(u8::from(entry.link));
    }
    let hash = sha256_of_parts(&[&bytes]);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    digest
}
