//! Just enough of STUN (RFC 8489) to tell datagrams apart; the rest is the stack's.

use std::net::SocketAddr;

use rtc::stun::message::{BINDING_REQUEST, Getter as _, Message, TransactionId};
use rtc::stun::xoraddr::XorMappedAddress;

/// A transaction id.
pub(crate) type Transaction = [u8; 12];

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;

/// What a datagram is, by its first bytes (RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class<'a> {
    /// A STUN request; the part of its USERNAME that names the receiver.
    Request { ufrag: Option<&'a str> },
    /// A STUN success or error response.
    Response { transaction: Transaction, success: bool },
    /// A STUN indication.
    Indication,
    /// Anything else: DTLS, TURN channel data, garbage.
    Other,
}

/// Classifies a datagram.
pub(crate) fn classify(datagram: &[u8]) -> Class<'_> {
    let Some((header, attributes)) = datagram.split_at_checked(HEADER) else { return Class::Other };
    if header[0] > 3 || header[4..8] != COOKIE {
        return Class::Other;
    }
    // the two class bits of the message type
    match (header[0] & 1 != 0, header[1] & 0x10 != 0) {
        (false, false) => Class::Request { ufrag: receiver(attributes) },
        (false, true) => Class::Indication,
        (true, error) => {
            let mut transaction = [0; 12];
            transaction.copy_from_slice(&header[8..HEADER]);
            Class::Response { transaction, success: !error }
        }
    }
}

/// The first part of the USERNAME attribute (RFC 8445, section 7.2.2).
fn receiver(mut attributes: &[u8]) -> Option<&str> {
    while let Some((head, rest)) = attributes.split_at_checked(4) {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..length)?;
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The transaction id of a STUN message.
pub(crate) fn transaction(datagram: &[u8]) -> Option<Transaction> {
    datagram.get(8..HEADER)?.try_into().ok()
}

/// A Binding request with a fresh transaction id.
pub(crate) fn binding_request() -> Option<(Transaction, Vec<u8>)> {
    let mut message = Message::new();
    message.build(&[Box::<TransactionId>::default(), Box::new(BINDING_REQUEST)]).ok()?;
    Some((transaction(&message.raw)?, message.raw))
}

/// The address in a Binding response.
pub(crate) fn mapped_address(datagram: &[u8]) -> Option<SocketAddr> {
    let mut message = Message::new();
    message.raw = datagram.to_vec();
    message.decode().ok()?;
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&message).ok()?;
    Some(SocketAddr::new(mapped.ip, mapped.port))
}

/// True if the request carries a MESSAGE-INTEGRITY made with `password`.
///
/// The stack checks it again, but only after it has acted on the role attributes and logged.
pub(crate) fn is_authentic(datagram: &[u8], password: &str) -> bool {
    let Ok(provider) = rtc::crypto::default_provider() else { return false };
    let mut message = Message::new();
    message.raw = datagram.to_vec();
    message.decode().is_ok()
        && rtc::stun::integrity::MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: [u8; 2], attributes: &[u8]) -> Vec<u8> {
        let mut message = kind.to_vec();
        message.extend((attributes.len() as u16).to_be_bytes());
        message.extend(COOKIE);
        message.extend([7; 12]);
        message.extend(attributes);
        message
    }

    #[test]
    fn requests_name_their_receiver() {
        let user = b"\x80\x22\0\x02xx\0\0\0\x06\0\x09abcd:wxyz\0\0\0";
        assert_eq!(classify(&message([0, 1], user)), Class::Request { ufrag: Some("abcd") });
        assert_eq!(classify(&message([0, 1], b"")), Class::Request { ufrag: None });
        assert_eq!(classify(&message([0, 1], b"\0\x06\0\x50abcd")), Class::Request { ufrag: None });
    }

    #[test]
    fn classes_are_told_apart() {
        let response = |success| Class::Response { transaction: [7; 12], success };
        assert_eq!(classify(&message([1, 1], b"")), response(true));
        assert_eq!(classify(&message([1, 0x11], b"")), response(false));
        assert_eq!(classify(&message([0, 0x11], b"")), Class::Indication);
        for other in [&b""[..], &[22, 254, 253], &[0; 30], &message([64, 0], b"")] {
            assert_eq!(classify(other), Class::Other);
        }
    }

    #[test]
    fn any_truncation_or_flip_is_survived() {
        let whole = message([0, 1], b"\0\x06\0\x09abcd:wxyz\0\0\0");
        for cut in 0..whole.len() {
            classify(&whole[..cut]);
            assert!(!is_authentic(&whole[..cut], "password"));
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            classify(&flipped);
            mapped_address(&flipped);
        }
    }

    #[test]
    fn a_request_is_one() {
        let (id, raw) = binding_request().unwrap();
        assert_eq!(classify(&raw), Class::Request { ufrag: None });
        assert_eq!(transaction(&raw), Some(id));
    }
}
