//! The whole core against a few scripted peers: bugs that only several machines together can have.

mod relaying;

use bytes::Bytes;
use byway_api::{Applied, CloseCode, Instance, MessageId, PathKind, Retry, Secret, SignalAddress, WallTime, Write};
use byway_wire::{DeviceKey, Direct, NetworkState, OpenMembership, PeerHello, RecordDraft, issue_self_token};

use super::*;
use crate::io::{Credit, DialError, FoundRoute, RouteSource, SendCommand, Up};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

fn key(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&Secret::new([n; 32]))
}

fn peer(n: u8) -> PeerId {
    key(n).peer()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn at(ms: u64) -> Now {
    let wall = WallTime::from_millis(1_800_000_000_000).plus(std::time::Duration::from_millis(ms));
    Now { tick: Tick(1_000 + ms), wall }
}

/// The record of device `n`, vouched for by device `signer`.
fn record(n: u8, signer: u8, name: &str) -> VerifiedRecord {
    let (network, key, issued_at) = (NetworkId::new("net").unwrap(), key(n), at(0).wall);
    let user = user(name);
    let credential = issue_self_token(&self::key(signer), &network, &user, &key.peer(), issued_at, DAY, [n; 16]);
    let draft = RecordDraft {
        network: network.clone(),
        user,
        seq: 1,
        issued_at,
        expires_at: issued_at.plus(DAY),
        addresses: vec![SignalAddress::socket("ws://host:1", key.peer()).unwrap()],
        capabilities: Vec::new(),
        credential,
        seal_keys: Vec::new(),
        coordinators: Vec::new(),
    };
    draft.sign(&key, &OpenMembership::new(network), issued_at).unwrap()
}

/// One node with a store that answers at once.
struct Bench {
    core: NodeCore,
    stored: Vec<Write>,
}

impl Bench {
    fn new() -> Self {
        let me = Myself {
            network: NetworkId::new("net").unwrap(),
            user: user("me"),
            peer: peer(1),
            instance: Instance::from_bytes([1; 16]),
            record: record(1, 1, "me"),
        };
        let mut bench = Self { core: NodeCore::new(me, Tuning::default(), Vec::new(), 1), stored: Vec::new() };
        bench.feed(0, In::InboxRoom(100));
        bench.feed(0, In::Start);
        bench
    }

    /// What the core wants, without what the store has done.
    fn feed(&mut self, ms: u64, input: In) -> Vec<Out> {
        let mut seen = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.core.handle(at(ms), input, &mut out);
            for effect in out {
                if let Out::Store { op, batch } = effect {
                    inputs.push_back(In::Stored { op, result: Ok(vec![Applied::Done; batch.len()]) });
                    self.stored.extend(batch);
                } else {
                    seen.push(effect);
                }
            }
        }
        seen
    }

    fn up(&mut self, ms: u64, conn: u64, record: &VerifiedRecord) -> Vec<Out> {
        let hello = PeerHello {
            peer: record.peer(),
            member: record.member().clone(),
            instance: Instance::from_bytes([9; 16]),
            record_seq: record.seq(),
            revocation_seq: 0,
            capabilities: Vec::new(),
            max_frame: limits::FRAME_MAX,
            time: at(ms).wall,
        };
        let up = Up {
            conn: ConnId(conn),
            hello,
            dialed: None,
            rank: 0,
            transport: "mem",
            kind: PathKind::Direct,
            path: String::new(),
            credit: Credit { control: 64, data: 256, bytes: 1 << 20 },
        };
        self.feed(ms, In::Up(Box::new(up)))
    }

    fn learn(&mut self, ms: u64, record: &VerifiedRecord) -> Vec<Out> {
        let (peer, address) = (record.peer(), record.addresses()[0].clone());
        let route =
            FoundRoute { peer, address, record: Some(record.clone()), last_seen: None, source: RouteSource::Step };
        self.feed(ms, In::Sighting(route))
    }

    fn send(&mut self, ms: u64, n: u8, to: &str) -> Vec<Out> {
        let command = SendCommand {
            op: OpId(u64::from(n)),
            to: user(to),
            message: MessageId::from_bytes([n; 16]),
            body: Bytes::from_static(b"hi"),
            reply_to: None,
            expires_at: at(ms).wall.plus(DAY),
        };
        self.feed(ms, In::Send(Box::new(command)))
    }

    /// Lets time pass; what the core wanted meanwhile and when.
    fn until(&mut self, ms: u64) -> Vec<(u64, Out)> {
        let mut log = Vec::new();
        while let Some(t) = self.core.deadline().filter(|t| t.0 <= 1_000 + ms) {
            let now = t.0.saturating_sub(1_000);
            log.extend(self.feed(now, In::Wake).into_iter().map(|out| (now, out)));
        }
        log
    }
}

fn dialled(out: &[Out]) -> Vec<PeerId> {
    out.iter().filter_map(|o| if let Out::Dial { peer, .. } = o { Some(*peer) } else { None }).collect()
}

/// Whoever met the second device of a user first took the first one for an impostor, for ever: only the
/// second was pinned, and nobody vouches for the first.
#[test]
fn a_second_device_brings_the_first_with_it() {
    let mut b = Bench::new();
    b.up(10, 1, &record(3, 2, "bob"));
    let out = b.up(20, 2, &record(2, 2, "bob"));
    assert!(!out.iter().any(|o| matches!(o, Out::Close { .. } | Out::Tell(Event::IdentityConflict { .. }))), "{out:?}");
    let pins: BTreeSet<_> =
        b.stored.iter().filter_map(|w| if let Write::Pin(pin) = w { Some(pin.peer) } else { None }).collect();
    assert!(pins.is_superset(&BTreeSet::from([peer(2), peer(3)])), "and a restart knows it");
}

/// A message for a device that was the only one known waited for ever once another device of the same
/// user was connected: the user counted as found.
#[test]
fn a_connected_device_does_not_hide_that_messages_wait_for_another() {
    let mut b = Bench::new();
    let (first, second) = (record(2, 2, "bob"), record(3, 2, "bob"));
    b.learn(10, &first);
    b.send(20, 1, "bob");
    for op in b.core.dials.keys().copied().collect::<Vec<_>>() {
        let error = DialError { retry: Retry::Later, superseded: false, text: "no".into() };
        b.feed(30, In::Dialed { op, result: Err(error) });
    }
    b.up(40, 1, &second);
    let again: Vec<_> = b.until(60_000).into_iter().map(|(_, out)| out).collect();
    assert!(dialled(&again).contains(&peer(2)), "{again:?}");
}

/// While our own network was down, every failed dial was followed by the next a quarter of a second
/// later: it said nothing about the peer, so the peer was not left alone.
#[test]
fn our_own_outage_is_no_reason_to_hurry() {
    let mut b = Bench::new();
    b.learn(10, &record(2, 2, "bob"));
    let mut dials = 0;
    for ms in (10..60_000).step_by(10) {
        let mut out = Vec::new();
        if b.core.deadline().is_some_and(|t| t <= at(ms).tick) {
            out = b.feed(ms, In::Wake);
        }
        dials += dialled(&out).len();
        for op in b.core.dials.keys().copied().collect::<Vec<_>>() {
            let error = DialError { retry: Retry::LocalFault, superseded: false, text: "no network".into() };
            b.feed(ms, In::Dialed { op, result: Err(error) });
        }
    }
    assert!((3..=10).contains(&dials), "{dials} dials in a minute");
}

/// Three neighbours had told an hour that was wrong when they connected, because our own clock was. It
/// was set right, the offset stayed, and everybody's presence lay in the future.
#[test]
fn clocks_are_followed_while_links_live() {
    let mut b = Bench::new();
    let hour = std::time::Duration::from_secs(3_600);
    for (conn, n, name) in [(1, 2, "bob"), (2, 3, "carol"), (3, 4, "dave")] {
        b.up(10, conn, &record(n, n, name));
        b.core.clock(at(10), peer(n), at(10).wall.plus(hour));
    }
    assert_eq!(b.core.roster.network_time(at(20)), at(20).wall.plus(hour));
    for conn in 1..=3 {
        let state = NetworkState { timestamp: at(30).wall, delta: true, ..NetworkState::default() };
        b.feed(30, In::Frame { conn: ConnId(conn), frame: Frame::State(state) });
    }
    assert_eq!(b.core.roster.network_time(at(30)), at(30).wall);
}

/// A receipt went to one of two connections, which was dead on the other side already, or was just being
/// closed as the one too many. Nobody sends a receipt again unasked: the sender waited 30 s to ask.
#[test]
fn a_receipt_goes_out_on_every_connection() {
    let mut b = Bench::new();
    let bob = record(2, 2, "bob");
    b.up(10, 1, &bob);
    b.up(20, 2, &bob);
    let direct = Direct {
        message: MessageId::from_bytes([5; 16]),
        epoch: 7,
        seq: 0,
        floor: 0,
        sent_at: at(0).wall,
        expires_at: at(0).wall.plus(DAY),
        reply_to: None,
        body: Bytes::from_static(b"hi"),
    };
    let out = b.feed(30, In::Frame { conn: ConnId(2), frame: Frame::Direct(direct) });
    let receipts: Vec<_> = out
        .iter()
        .filter_map(|o| match o {
            Out::Write { conn, frame: Frame::Receipts(_) } => Some(*conn),
            _ => None,
        })
        .collect();
    assert_eq!(receipts, [ConnId(1), ConnId(2)]);
    assert!(
        b.feed(40, In::Down { conn: ConnId(1), code: CloseCode::LOST }).iter().all(|o| !matches!(o, Out::Close { .. }))
    );
}

mod presence;
