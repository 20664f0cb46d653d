//! How frames lie in the stream: a length of 32 bits before each, or, in its place, the end.

use byway_api::CloseCode;

use crate::MAX_FRAME;

/// Length of what stands before a frame.
pub(crate) const HEADER: usize = 4;

/// In the upper half of a header that is no length.
const END: u32 = 0xffff_0000;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// So many bytes follow.
    Frame(usize),
    /// Nothing follows.
    End(CloseCode),
    /// The far side does not keep to the protocol.
    Nonsense,
}

/// The header of a frame, which is at most [`MAX_FRAME`] long.
pub(crate) fn header(length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_FRAME, "checked by send");
    (length as u32).to_be_bytes()
}

/// The header that ends a connection.
pub(crate) fn end(code: CloseCode) -> [u8; HEADER] {
    (END | u32::from(code.0)).to_be_bytes()
}

/// Reads a header.
pub(crate) fn head(bytes: [u8; HEADER]) -> Head {
    let head = u32::from_be_bytes(bytes);
    if head & END == END {
        let [.., high, low] = bytes;
        return Head::End(CloseCode(u16::from_be_bytes([high, low])));
    }
    match usize::try_from(head) {
        Ok(length) if length <= MAX_FRAME => Head::Frame(length),
        _ => Head::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_ends_are_told_apart() {
        for length in [0, 1, 65_535, 65_536] {
            assert_eq!(head(header(length)), Head::Frame(length));
        }
        for code in [0, 1, 4_242, u16::MAX] {
            assert_eq!(head(end(CloseCode(code))), Head::End(CloseCode(code)));
        }
        for nonsense in [65_537u32, 0x7fff_ffff, 0xfffe_ffff] {
            assert_eq!(head(nonsense.to_be_bytes()), Head::Nonsense);
        }
    }
}
