//! A LAN that wants us no good: DNS by hand.

use std::net::Ipv4Addr;

use super::*;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Somebody on the LAN who sends what he likes.
struct Attacker {
    socket: UdpSocket,
    port: u16,
    state: u64,
}

impl Attacker {
    fn new(port: u16) -> Self {
        // the loopback is where multicast from this address goes out
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { socket, port, state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, (GROUP, self.port)).unwrap();
    }

    /// Seeded: the same in every run.
    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.random(256) as u8).collect()
    }
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.trim_end_matches('.').split('.');
    let mut wire: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let flags = if kind == 12 { 1u16 } else { 0x8001 };
    let (ttl, len) = (ttl.to_be_bytes(), (data.len() as u16).to_be_bytes());
    [&name(owner)[..], &kind.to_be_bytes(), &flags.to_be_bytes(), &ttl, &len, data].concat()
}

/// A response that introduces an instance with this TXT record.
fn instance(label: &str, txt: &[u8], ttl: u32) -> Vec<u8> {
    let (service, host) = ("_byway._udp.local.", format!("{label}.local."));
    let full = format!("{label}.{service}");
    let srv = [&[0, 0, 0, 0, 0, 9][..], &name(&host)].concat();
    let answers = [
        record(service, 12, ttl, &name(&full)),
        record(&full, 33, ttl, &srv),
        record(&full, 16, ttl, txt),
        record(&host, 1, ttl, &[127, 0, 0, 1]),
    ];
    [&[0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0][..], &answers.concat()].concat()
}

fn strings(properties: &[(&str, &[u8])]) -> Vec<u8> {
    properties
        .iter()
        .flat_map(|(key, value)| [&[(key.len() + 1 + value.len()) as u8], key.as_bytes(), b"=", value].concat())
        .collect()
}

/// Garbage in every place where we read something. None of it is reported, nothing panics, and a member
/// who speaks in the middle of it is heard.
#[tokio::test]
async fn garbage_is_refused_and_members_are_heard_through_it() {
    let port = free_port();
    let alice = mdns(port);
    let mut attacker = Attacker::new(port);
    let nobody = Nobody(network());
    let attack = async {
        for round in 0..400 {
            let label: String = match round % 4 {
                0 => format!("{:020x}", attacker.random(u64::MAX)),
                1 => format!("{:020x}-{}", attacker.random(9), attacker.random(9)),
                2 => "x".repeat(1 + attacker.random(60) as usize),
                _ => format!("{:020x}", attacker.random(3)),
            };
            let header = [vec![1, (round % 3) as u8, attacker.random(6) as u8], attacker.bytes(12)].concat();
            let len = attacker.random(250) as usize;
            let body = attacker.bytes(len);
            let txt = match round % 5 {
                0 => strings(&[("h", &header), ("a", &body)]),
                1 => strings(&[("h", &[1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), ("a", &body)]),
                2 => strings(&[("h", &header), ("a", &[0; 252]), ("b", &[0; 252]), ("c", &[0; 252]), ("d", &[0; 244])]),
                3 => body.clone(),
                _ => strings(&[("h", &body)]),
            };
            attacker.send(&instance(&label, &txt, 120));
            let len = attacker.random(300) as usize;
            let mut noise = attacker.bytes(len);
            if let Some(flags) = noise.get_mut(2) {
                *flags = 0x84;
            }
            attacker.send(&noise);
            tokio::task::yield_now().await;
        }
    };
    let mut attack = std::pin::pin!(attack);
    tokio::select! {
        ended = alice.browse(&nobody) => panic!("browse ended: {ended:?}"),
        () = &mut attack => {}
    }
    let bob = mdns(port);
    announce(&bob, &announcement(7, &network(), "bob", 1, 0)).await;
    assert_eq!(find(&alice, "bob").await, [(key(7).peer(), 1)]);
}

/// The daemon below remembers whatever it is told, for as long as it is told to. It is begun anew before
/// that becomes much, and members are found all the same.
#[tokio::test]
async fn a_flood_of_instances_does_not_fill_the_memory() {
    let port = free_port();
    let mut bounded = config(port);
    bounded.records = 500;
    bounded.inspect_every = Duration::from_millis(50);
    bounded.ask_every = Duration::from_millis(50);
    let (alice, bob) = (Mdns::new(bounded), mdns(port));
    let me = announcement(7, &network(), "bob", 1, 0);
    announce(&bob, &me).await;
    let mut attacker = Attacker::new(port);
    let sightings = Script::new(network()).sightings();
    let flood = async {
        let mut before = 0;
        // a browser is slow to start: what is not open yet has not begun anew
        while alice.remembered().await.is_none() {
            tokio::task::yield_now().await;
        }
        loop {
            for _ in 0..50 {
                let label = format!("{:020x}", attacker.random(u64::MAX));
                attacker.send(&instance(&label, &strings(&[("h", &[0; 15]), ("a", &[0; 200])]), u32::MAX));
            }
            match alice.remembered().await {
                Some(held) if held >= before => before = held,
                _ => return before,
            }
        }
    };
    let most = within(async {
        tokio::select! {
            ended = alice.browse(&sightings) => panic!("browse ended: {ended:?}"),
            most = flood => most,
        }
    })
    .await;
    println!("{most} records were held when it began anew");
    browse_until(&alice, &sightings, |s| seen(s).contains(&key(7).peer())).await;
    assert_eq!(find(&alice, "bob").await, [(key(7).peer(), 1)]);
}
