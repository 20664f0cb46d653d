//! Randomness of the operating system, for what a peer must not guess.

use std::fmt::Write as _;

use byway_api::{TransportError, TransportErrorKind};

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], TransportError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| {
        crate::error(TransportErrorKind::LocalFault, "the operating system gives no randomness").with_source(e)
    })?;
    Ok(bytes)
}

/// `N` random bytes as hexadecimal text.
pub(crate) fn text<const N: usize>() -> Result<String, TransportError> {
    Ok(bytes::<N>()?.iter().fold(String::with_capacity(2 * N), |mut text, byte| {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
