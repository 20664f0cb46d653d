//! Who was heard of on the LAN. Bounded: whatever the LAN says, the oldest makes room.

use std::collections::BTreeMap;

use bytes::Bytes;
use byway_api::{PeerId, Route, SignalAddress, UserId};
use byway_wire::{Domain, limits, proto, verify};
use prost::Message as _;
use tokio::time::Instant;

use super::cover::{Cover, NONCE, Tag};
use super::piece::Piece;

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    most: usize,
    members: BTreeMap<Tag, Member>,
    /// Records of which not every piece is here.
    partial: BTreeMap<Tag, Partial>,
    /// Rises with every change; the number of the newest.
    stamp: u64,
}

#[derive(Debug)]
struct Member {
    claim: Claim,
    nonce: [u8; NONCE],
    stamp: u64,
    /// Forgotten then, unless it is heard of again.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Partial {
    nonce: [u8; NONCE],
    pieces: Vec<Option<Vec<u8>>>,
    stamp: u64,
}

/// What a record says. The device has signed it; that it is its user's is for the node to judge.
#[derive(Debug)]
struct Claim {
    user: UserId,
    seq: u64,
    routes: Vec<Route>,
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), members: BTreeMap::new(), partial: BTreeMap::new(), stamp: 0 }
    }

    /// The number of the newest change.
    pub(super) const fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Takes a piece that was heard; true if it brought something new about a member.
    pub(super) fn hear(&mut self, cover: &Cover, piece: Piece) -> bool {
        if let Some(member) = self.members.get_mut(&piece.tag)
            && member.nonce == piece.nonce
        {
            member.until = None;
            return false;
        }
        let (tag, nonce) = (piece.tag.clone(), piece.nonce);
        let Some(covered) = self.complete(piece) else { return false };
        let Some(claim) = cover.lift(&tag, nonce, &covered).and_then(|record| Claim::read(cover, &tag, &record)) else {
            return false;
        };
        if let Some(member) = self.members.get_mut(&tag)
            && member.claim.seq >= claim.seq
        {
            return false;
        }
        self.stamp += 1;
        let stamp = self.stamp;
        self.members.insert(tag, Member { claim, nonce, stamp, until: None });
        if self.members.len() > self.most {
            forget_oldest(&mut self.members, |member| member.stamp);
        }
        true
    }

    /// The whole, if this was the last piece that was missing.
    fn complete(&mut self, piece: Piece) -> Option<Vec<u8>> {
        if piece.of == 1 {
            return Some(piece.bytes);
        }
        self.stamp += 1;
        let empty = || Partial { nonce: piece.nonce, pieces: vec![None; piece.of], stamp: 0 };
        let partial = self.partial.entry(piece.tag.clone()).or_insert_with(empty);
        if partial.nonce != piece.nonce || partial.pieces.len() != piece.of {
            *partial = empty();
        }
        partial.stamp = self.stamp;
        if let Some(place) = partial.pieces.get_mut(piece.number) {
            *place = Some(piece.bytes);
        }
        if partial.pieces.iter().all(Option::is_some) {
            let whole = self.partial.remove(&piece.tag)?;
            return Some(whole.pieces.into_iter().flatten().collect::<Vec<_>>().concat());
        }
        if self.partial.len() > self.most {
            forget_oldest(&mut self.partial, |partial| partial.stamp);
        }
        None
    }

    /// A device said goodbye, or its time on the LAN is over.
    pub(super) fn forget(&mut self, tag: &Tag) {
        self.members.remove(tag);
        self.partial.remove(tag);
    }

    /// From now on nobody tells when somebody goes: who is not heard of again by `until` is forgotten.
    pub(super) fn doubt(&mut self, until: Instant) {
        for member in self.members.values_mut() {
            member.until.get_or_insert(until);
        }
    }

    /// Forgets whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.members.retain(|_, member| member.until.is_none_or(|until| until > now));
    }

    /// The routes to a user's devices.
    pub(super) fn routes_of(&self, user: &UserId) -> Vec<Route> {
        let theirs = self.members.values().filter(|member| member.claim.user == *user);
        theirs.flat_map(|member| member.claim.routes.iter().cloned()).collect()
    }

    /// The routes that became known after the change of this number, oldest first.
    pub(super) fn since(&self, stamp: u64) -> Vec<Route> {
        let mut new: Vec<_> = self.members.values().filter(|member| member.stamp > stamp).collect();
        new.sort_by_key(|member| member.stamp);
        new.into_iter().flat_map(|member| member.claim.routes.iter().cloned()).collect()
    }
}

fn forget_oldest<T>(map: &mut BTreeMap<Tag, T>, stamp: impl Fn(&T) -> u64) {
    let oldest = map.iter().min_by_key(|(_, entry)| stamp(entry)).map(|(tag, _)| tag.clone());
    if let Some(oldest) = oldest {
        map.remove(&oldest);
    }
}

impl Claim {
    /// Reads a record that was found under this tag. `None` unless the device that the tag is for has
    /// signed it, for this network, and says where it can be reached.
    fn read(cover: &Cover, tag: &Tag, bytes: &Bytes) -> Option<Self> {
        if bytes.len() > limits::RECORD_MAX {
            return None;
        }
        let signed = proto::Signed::decode(bytes.clone()).ok()?;
        let record = proto::PeerRecord::decode(signed.payload.clone()).ok()?;
        let peer = PeerId::from_slice(&record.peer_key).ok()?;
        if cover.tag(&peer) != *tag || record.network_id != cover.network().as_str() {
            return None;
        }
        verify(&peer, Domain::PeerRecord, &signed.payload, &signed.signature).ok()?;
        let user = UserId::new(&record.user_id).ok()?;
        let addresses = record.addresses.iter().take(limits::RECORD_ADDRESSES);
        let routes: Vec<_> = addresses
            .filter_map(|text| SignalAddress::new(text).ok())
            .filter(|address| leads_to(address, peer))
            .map(|address| Route::new(peer, address).with_record(bytes.clone()))
            .collect();
        (!routes.is_empty()).then_some(Self { user, seq: record.seq, routes })
    }
}

/// An address of the device itself: not one through a neighbour, who is none of ours.
fn leads_to(address: &SignalAddress, peer: PeerId) -> bool {
    if address.is_socket() {
        return address.socket_parts().is_some_and(|(_, named)| named == peer);
    }
    !address.is_signalling()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use byway_api::{NetworkId, Secret, WallTime};
    use byway_wire::{DeviceKey, OpenMembership, RecordDraft, issue_self_token};

    use super::*;
    use crate::mdns::piece::{PIECES, cut};

    fn network(name: &str) -> NetworkId {
        NetworkId::new(name).unwrap()
    }

    fn user(n: u16) -> UserId {
        UserId::new(&format!("user-{n}")).unwrap()
    }

    fn key(n: u16) -> DeviceKey {
        let mut seed = [3; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        DeviceKey::from_seed(&Secret::new(seed))
    }

    /// A record with a first address of this length at least.
    fn record(n: u16, seq: u64, addresses: &[String]) -> Bytes {
        let (key, now) = (key(n), WallTime::from_millis(1_800_000_000_000));
        let team = network("team-blue");
        let end = now.plus(limits::RECORD_LIFE);
        let credential = issue_self_token(&key, &team, &user(n), &key.peer(), now, limits::RECORD_LIFE, [1; 16]);
        let draft = RecordDraft {
            network: team.clone(),
            user: user(n),
            seq,
            issued_at: now,
            expires_at: end,
            addresses: addresses.iter().map(|text| SignalAddress::new(text).unwrap()).collect(),
            capabilities: vec!["relay".to_owned()],
            credential,
            seal_keys: Vec::new(),
            coordinators: Vec::new(),
        };
        draft.sign(&key, &OpenMembership::new(team), now).unwrap().bytes().clone()
    }

    fn address(n: u16) -> String {
        format!("ws://10.0.0.1:{n}/{}", key(n).peer())
    }

    fn pieces(cover: &Cover, n: u16, record: &Bytes) -> Vec<Piece> {
        cut(cover, &cover.tag(&key(n).peer()), record).unwrap()
    }

    fn hear(table: &mut Table, cover: &Cover, pieces: Vec<Piece>) -> bool {
        pieces.into_iter().fold(false, |heard, piece| table.hear(cover, piece) | heard)
    }

    fn cover() -> Cover {
        Cover::of(&network("team-blue"))
    }

    #[test]
    fn a_member_is_known_by_its_addresses_until_it_leaves() {
        let (cover, mut table) = (cover(), Table::new(4));
        let foreign = format!("ws://10.0.0.1:9/{}", key(2).peer());
        let through = format!("peer:{}", key(2).peer());
        let said = record(1, 1, &[address(1), foreign, through, "mem:7".to_owned()]);
        assert!(hear(&mut table, &cover, pieces(&cover, 1, &said)));
        let found: Vec<_> = table.routes_of(&user(1)).iter().map(|route| route.address.to_string()).collect();
        assert_eq!(found, [address(1), "mem:7".to_owned()], "only its own addresses");
        assert!(table.routes_of(&user(1)).iter().all(|r| r.peer == key(1).peer() && r.record.as_ref() == Some(&said)));
        assert_eq!(
            (table.routes_of(&user(2)).len(), table.since(0).len(), table.since(table.stamp()).len()),
            (0, 2, 0)
        );
        assert!(!hear(&mut table, &cover, pieces(&cover, 1, &said)), "nothing new");
        table.forget(&cover.tag(&key(1).peer()));
        assert_eq!(table.routes_of(&user(1)), []);
    }

    #[test]
    fn pieces_come_in_any_order_and_those_of_two_records_are_not_mixed() {
        let (cover, mut table) = (cover(), Table::new(4));
        let long = |seq| record(1, seq, &(0..8).map(|i| format!("mem:{i}{}", "9".repeat(200))).collect::<Vec<_>>());
        let (old, new) = (pieces(&cover, 1, &long(1)), pieces(&cover, 1, &long(2)));
        assert!(old.len() > 1 && old.len() <= PIECES);
        assert!(!table.hear(&cover, old[0].clone()));
        assert!(!hear(&mut table, &cover, new[1..].iter().rev().cloned().collect()), "the first one is the other's");
        assert!(table.hear(&cover, new[0].clone()));
        assert_eq!(table.routes_of(&user(1)).len(), 8);
        assert!(!hear(&mut table, &cover, old), "an older record does not come back");
        assert_eq!(table.partial.len(), 0);
    }

    #[test]
    fn a_claim_must_be_signed_by_the_device_it_is_for() {
        let (cover, mut table) = (cover(), Table::new(4));
        let good = record(1, 1, &[address(1)]);
        let mut wrong = proto::Signed::decode(good.clone()).unwrap();
        wrong.signature = Bytes::from_static(&[1; 64]);
        let wrong = Bytes::from(wrong.encode_to_vec());
        assert!(!hear(&mut table, &cover, pieces(&cover, 1, &wrong)), "a wrong signature");
        assert!(!hear(&mut table, &cover, pieces(&cover, 2, &good)), "the name of another device");
        assert!(!hear(&mut table, &cover, pieces(&cover, 1, &Bytes::from_static(b"record"))), "no record");
        let elsewhere = Cover::of(&network("team-red"));
        assert!(!hear(&mut table, &cover, pieces(&elsewhere, 1, &good)), "another network");
        let mut moved = Table::new(4);
        assert!(!hear(&mut moved, &elsewhere, pieces(&elsewhere, 1, &good)), "a record of another network");
        assert!(hear(&mut table, &cover, pieces(&cover, 1, &good)));
    }

    /// A LAN that shouts: thousands of members, of which only the newest are kept, and tens of thousands
    /// of pieces that never become anything.
    #[test]
    fn a_flood_is_bounded_and_the_oldest_make_room() {
        let (cover, mut table) = (cover(), Table::new(8));
        for n in 0..100 {
            assert!(hear(&mut table, &cover, pieces(&cover, n, &record(n, 1, &[address(n)]))));
        }
        assert_eq!(table.members.len(), 8);
        assert!((0..92).all(|n| table.routes_of(&user(n)).is_empty()));
        assert!((92..100).all(|n| !table.routes_of(&user(n)).is_empty()));
        for n in 0..20_000u32 {
            let tag = Tag::parse(&format!("{n:020x}")).unwrap();
            let piece = Piece { tag, number: 1, of: PIECES, nonce: [0; NONCE], bytes: vec![0; 1_000] };
            assert!(!table.hear(&cover, piece));
        }
        assert_eq!((table.partial.len(), table.members.len()), (8, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_of_again_is_forgotten() {
        let (cover, mut table) = (cover(), Table::new(8));
        let said = [1, 2].map(|n| record(n, 1, &[address(n)]));
        for (n, said) in [(1, &said[0]), (2, &said[1])] {
            hear(&mut table, &cover, pieces(&cover, n, said));
        }
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        table.doubt(start + minute);
        table.doubt(start + minute * 9);
        hear(&mut table, &cover, pieces(&cover, 2, &said[1]));
        table.expire(start + minute / 2);
        assert_eq!(table.members.len(), 2);
        table.expire(start + minute);
        assert_eq!((table.routes_of(&user(1)).len(), table.routes_of(&user(2)).len()), (0, 1));
    }

    /// What the documentation says about sizes: a device of an open network with four addresses.
    #[test]
    fn an_ordinary_record_fits_into_one_packet_or_two() {
        let four: Vec<_> = (1..5).map(|n| format!("ws://192.168.100.{n}:51234/{}", key(1).peer())).collect();
        let bytes = record(1, 1_800_000_000_000, &four).len();
        println!("a record with four addresses and no seal key has {bytes} bytes");
        assert!(pieces(&cover(), 1, &record(1, 1, &four)).len() <= 2);
    }
}
