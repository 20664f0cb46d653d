//! base64url without padding (RFC 4648 section 5), canonical only.
//!
//! Spare bits that are not zero are refused: otherwise two texts would decode to the same bytes, and
//! a flipped bit in a signed token could go unnoticed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::WireError;

/// The text of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of `text`.
///
/// # Errors
/// [`WireError::Malformed`] for another alphabet, padding, an impossible length or non-zero spare bits.
pub fn decode(text: &str) -> Result<Vec<u8>, WireError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|e| WireError::malformed("base64url", e))
}

/// Exactly `N` bytes.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], WireError> {
    let bytes = decode(text)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| WireError::malformed("base64url", format!("{got} bytes instead of {N}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_decodes() {
        assert_eq!(encode(&[0xfb]), "-w");
        assert_eq!(decode("-w").unwrap(), [0xfb]);
        for wrong in ["-x", "-w==", "+w", "-", "-w\n", " -w"] {
            assert!(decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn arrays_have_their_length() {
        assert_eq!(decode_array::<2>("AAE").unwrap(), [0, 1]);
        assert!(decode_array::<3>("AAE").is_err());
    }
}
