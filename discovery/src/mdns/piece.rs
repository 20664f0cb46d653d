//! A covered record in pieces, each of which fits into the TXT record of one DNS-SD service instance.
//!
//! | property | bytes |
//! |---|---|
//! | `h` | format 1, number of the piece, number of pieces, 12 bytes nonce |
//! | `a`, `b`, ... | the piece, at most 252 bytes each |
//!
//! The instance is named `{tag}`, those of further pieces `{tag}-1` and so on. The nonce says which
//! pieces belong together.

use mdns_sd::{TxtProperties, TxtProperty};

use super::cover::{Cover, NONCE, OVERHEAD, Tag};
use byway_wire::limits;

/// Bytes of a piece. With its names and addresses it makes a packet of less than 1,300 bytes, which no
/// LAN breaks up.
pub(super) const PIECE: usize = 1_000;
/// Bytes in one property: a string of a TXT record has at most 255, the key and `=` included.
const PROPERTY: usize = 252;
/// Pieces of the largest record.
pub(super) const PIECES: usize = (limits::RECORD_MAX + OVERHEAD).div_ceil(PIECE);

const FORMAT: u8 = 1;
const HEADER: &str = "h";
const KEYS: [&str; PIECE.div_ceil(PROPERTY)] = ["a", "b", "c", "d"];

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) tag: Tag,
    pub(super) number: usize,
    pub(super) of: usize,
    pub(super) nonce: [u8; NONCE],
    pub(super) bytes: Vec<u8>,
}

/// A record in its pieces; `None` if it is longer than a record may be.
pub(super) fn cut(cover: &Cover, tag: &Tag, record: &[u8]) -> Option<Vec<Piece>> {
    if record.is_empty() || record.len() > limits::RECORD_MAX {
        return None;
    }
    let (nonce, covered) = cover.put(tag, record)?;
    let chunks: Vec<_> = covered.chunks(PIECE).collect();
    let piece = |(number, chunk): (usize, &&[u8])| Piece {
        tag: tag.clone(),
        number,
        of: chunks.len(),
        nonce,
        bytes: chunk.to_vec(),
    };
    Some(chunks.iter().enumerate().map(piece).collect())
}

/// The device and the number of a piece, by the name of its instance.
pub(super) fn parse_name(name: &str) -> Option<(Tag, usize)> {
    let Some((tag, number)) = name.split_once('-') else { return Some((Tag::parse(name)?, 0)) };
    let number = (1..PIECES).find(|n| n.to_string() == number)?;
    Some((Tag::parse(tag)?, number))
}

impl Piece {
    /// The instance's name, of at most 22 bytes.
    pub(super) fn name(&self) -> String {
        match self.number {
            0 => self.tag.as_str().to_owned(),
            n => format!("{}-{n}", self.tag.as_str()),
        }
    }

    /// What stands in the TXT record.
    pub(super) fn properties(&self) -> Vec<TxtProperty> {
        // both are less than PIECES
        let mut header = vec![FORMAT, self.number as u8, self.of as u8];
        header.extend_from_slice(&self.nonce);
        let mut properties = vec![TxtProperty::from((HEADER, header))];
        properties.extend(KEYS.iter().zip(self.bytes.chunks(PROPERTY)).map(TxtProperty::from));
        properties
    }

    /// Reads a piece that somebody on the LAN sent; `None` if it is none.
    pub(super) fn read(name: &str, properties: &TxtProperties) -> Option<Self> {
        let (tag, number) = parse_name(name)?;
        let value = |key| properties.get_property_val(key).flatten();
        let [FORMAT, at, of, nonce @ ..] = value(HEADER)? else { return None };
        let (at, of, nonce) = (usize::from(*at), usize::from(*of), <[u8; NONCE]>::try_from(nonce).ok()?);
        if at != number || number >= of || of > PIECES {
            return None;
        }
        let bytes = KEYS.iter().map_while(|key| value(key)).collect::<Vec<_>>().concat();
        let fits = if number + 1 < of { bytes.len() == PIECE } else { (1..=PIECE).contains(&bytes.len()) };
        fits.then_some(Self { tag, number, of, nonce, bytes })
    }
}

#[cfg(test)]
mod tests {
    use byway_api::{NetworkId, PeerId};

    use super::*;

    fn cover() -> Cover {
        Cover::of(&NetworkId::new("team-blue").unwrap())
    }

    fn pieces(len: usize) -> Option<Vec<Piece>> {
        let cover = cover();
        cut(&cover, &cover.tag(&PeerId::from_bytes([7; 32])), &vec![b'r'; len])
    }

    fn txt(piece: &Piece) -> TxtProperties {
        let info = mdns_sd::ServiceInfo::new("_t._udp.local.", "x", "x.local.", "", 0, piece.properties()).unwrap();
        info.get_properties().clone()
    }

    #[test]
    fn a_record_of_any_allowed_length_comes_back_from_its_pieces() {
        assert_eq!((pieces(0), pieces(limits::RECORD_MAX + 1)), (None, None));
        assert_eq!(pieces(limits::RECORD_MAX).unwrap().len(), PIECES);
        for len in [1, PIECE - OVERHEAD, PIECE - OVERHEAD + 1, 2 * PIECE, limits::RECORD_MAX] {
            let pieces = pieces(len).unwrap();
            let mut covered = Vec::new();
            for (n, piece) in pieces.iter().enumerate() {
                let size: usize = piece.properties().iter().map(|p| 2 + p.key().len() + p.val().unwrap().len()).sum();
                assert!(size <= PIECE + 64 && piece.name().len() <= 63, "{size}");
                let read = Piece::read(&piece.name(), &txt(piece)).unwrap();
                assert_eq!((&read, read.number, read.of), (piece, n, pieces.len()));
                covered.extend(read.bytes);
            }
            let cover = cover();
            assert_eq!(cover.lift(&pieces[0].tag, pieces[0].nonce, &covered).unwrap().len(), len);
        }
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        let good = &pieces(1_500).unwrap()[1];
        let name = good.name();
        assert!(name.ends_with("-1"));
        let header = good.properties()[0].val().unwrap().to_vec();
        let with = |header: &[u8], body: &[(&str, Vec<u8>)]| {
            let mut properties = vec![TxtProperty::from((HEADER, header))];
            properties.extend(body.iter().map(|(key, value)| TxtProperty::from((*key, value))));
            let wrong = Piece { bytes: Vec::new(), ..good.clone() };
            let info = mdns_sd::ServiceInfo::new("_t._udp.local.", "x", "x.local.", "", 0, properties).unwrap();
            Piece::read(&wrong.name(), info.get_properties())
        };
        let body = [("a", vec![1; 252])];
        assert!(with(&header, &body).is_some(), "the others differ in one thing");
        for (at, wrong) in [(0, 0), (0, 2), (1, 0), (1, 2), (1, 255), (2, 0), (2, 1), (2, PIECES as u8 + 1), (2, 255)] {
            let mut header = header.clone();
            header[at] = wrong;
            assert_eq!(with(&header, &body), None, "{wrong} at {at}");
        }
        assert_eq!(with(&header[..14], &body), None, "a short nonce");
        assert_eq!(with(&[&header[..], &[0]].concat(), &body), None, "a long nonce");
        assert_eq!(with(&[], &body), None, "no header");
        assert_eq!(with(&header, &[]), None, "nothing in it");
        assert_eq!(with(&header, &[("b", vec![1; 252])]), None, "a gap");
        let all: Vec<_> = KEYS.iter().map(|key| (*key, vec![1; 253])).collect();
        assert_eq!(with(&header, &all), None, "too much in it");
        assert_eq!(Piece::read(&name, &TxtProperties::new()), None);
        assert_eq!(Piece::read("My printer", &txt(good)), None);
        assert_eq!(Piece::read(good.tag.as_str(), &txt(good)), None, "the name of another piece");
        for name in ["-0", "-01", "-+1", "-1-1", "-9", "- 1", "-"] {
            assert_eq!(parse_name(&format!("{}{name}", good.tag.as_str())), None, "{name}");
        }
    }
}
