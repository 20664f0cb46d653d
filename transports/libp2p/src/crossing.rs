//! Which of two dials that cross becomes the connection. See the crate's documentation.

use std::collections::BTreeMap;

use byway_api::PeerId;

/// The dials between us and others that are not decided yet, by the number of their connection. `D` belongs
/// to our own, `A` to those that we have said yes to.
#[derive(Debug)]
pub(crate) struct Crossing<K, D, A> {
    me: PeerId,
    ours: BTreeMap<K, (PeerId, D, Phase)>,
    theirs: BTreeMap<K, (PeerId, A)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not answered yet.
    Asking,
    /// Answered with yes, and waits for the peer's own dial to be decided.
    Held,
    /// The last word is said.
    Gone,
}

/// What becomes of a dial of ours that was answered with yes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<D> {
    /// Say the last word.
    Go,
    /// Wait.
    Hold,
    /// The peer's dial wins.
    GiveUp(D),
    /// Nobody waits for it any more.
    Unknown,
}

impl<K: Copy + Ord, D, A> Crossing<K, D, A> {
    pub(crate) const fn new(me: PeerId) -> Self {
        Self { me, ours: BTreeMap::new(), theirs: BTreeMap::new() }
    }

    /// We dial.
    pub(crate) fn dial(&mut self, key: K, peer: PeerId, dial: D) {
        self.ours.insert(key, (peer, dial, Phase::Asking));
    }

    /// We say yes to a dial of `peer`.
    pub(crate) fn agree(&mut self, key: K, peer: PeerId, accept: A) {
        self.theirs.insert(key, (peer, accept));
    }

    /// Our dial was answered with yes.
    pub(crate) fn agreed(&mut self, key: K) -> Turn<D> {
        let Some((peer, _, phase)) = self.ours.get_mut(&key) else { return Turn::Unknown };
        if !self.theirs.values().any(|(other, _)| other == peer) {
            *phase = Phase::Gone;
            return Turn::Go;
        }
        *phase = Phase::Held;
        if *peer < self.me {
            return Turn::Hold;
        }
        self.ours.remove(&key).map_or(Turn::Unknown, |(_, dial, _)| Turn::GiveUp(dial))
    }

    /// Our dial has ended, either way.
    pub(crate) fn end(&mut self, key: K) -> Option<D> {
        self.ours.remove(&key).map(|(_, dial, _)| dial)
    }

    /// A dial of the peer has become a connection: ours, which are not decided, have lost.
    pub(crate) fn opened(&mut self, key: K) -> Option<(A, Vec<D>)> {
        let (peer, accept) = self.theirs.remove(&key)?;
        let lost: Vec<K> = self
            .ours
            .iter()
            .filter(|(_, (other, _, phase))| *other == peer && *phase != Phase::Gone)
            .map(|(key, _)| *key)
            .collect();
        Some((accept, lost.into_iter().filter_map(|key| self.end(key)).collect()))
    }

    /// A dial of the peer has come to nothing: ours that has waited for it may go on.
    pub(crate) fn failed(&mut self, key: K) -> Option<(K, PeerId)> {
        let (peer, _) = self.theirs.remove(&key)?;
        if self.theirs.values().any(|(other, _)| *other == peer) {
            return None;
        }
        let held = self.ours.iter_mut().find(|(_, (other, _, phase))| *other == peer && *phase == Phase::Held);
        held.map(|(key, (_, _, phase))| {
            *phase = Phase::Gone;
            (*key, peer)
        })
    }

    /// All of ours.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = D> {
        std::mem::take(&mut self.ours).into_values().map(|(_, dial, _)| dial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two dials and what is on the way between the devices, in every order in which it can arrive.
    #[derive(Clone)]
    struct World {
        /// By device: what has arrived there and is not handled yet, per connection in order.
        wires: [[Vec<Message>; 2]; 2],
        /// By device: its dials, those it said yes to, the connections that opened.
        ours: [Option<Phase>; 2],
        theirs: [bool; 2],
        opened: [Vec<usize>; 2],
        superseded: [bool; 2],
    }

    #[derive(Clone, Copy, Debug)]
    enum Message {
        Ask,
        Yes,
        Go,
        Drop,
    }

    /// The same rules through the real table, which cannot be cloned: it is built anew for each step.
    fn table(world: &World, device: usize) -> Crossing<usize, (), ()> {
        let peer = |n: usize| PeerId::from_bytes([n as u8; 32]);
        let mut table = Crossing::new(peer(device));
        if let Some(phase) = world.ours[device] {
            table.ours.insert(device, (peer(1 - device), (), phase));
        }
        if world.theirs[device] {
            table.theirs.insert(1 - device, (peer(1 - device), ()));
        }
        table
    }

    fn save(world: &mut World, device: usize, table: &Crossing<usize, (), ()>) {
        world.ours[device] = table.ours.get(&device).map(|(_, _, phase)| *phase);
        world.theirs[device] = table.theirs.contains_key(&(1 - device));
    }

    /// Connection `c` is the one that device `c` dials.
    fn handle(world: &mut World, device: usize, c: usize, message: Message) {
        let mut table = table(world, device);
        let other = 1 - device;
        match message {
            Message::Ask => {
                table.agree(c, PeerId::from_bytes([other as u8; 32]), ());
                world.wires[other][c].push(Message::Yes);
            }
            Message::Yes => match table.agreed(c) {
                Turn::Go => {
                    world.opened[device].push(c);
                    world.wires[other][c].push(Message::Go);
                    table.end(c);
                }
                Turn::Hold => {}
                Turn::GiveUp(()) => {
                    world.superseded[device] = true;
                    world.wires[other][c].push(Message::Drop);
                }
                Turn::Unknown => world.wires[other][c].push(Message::Drop),
            },
            Message::Go => {
                let (_, lost) = table.opened(c).unwrap();
                world.opened[device].push(c);
                if !lost.is_empty() {
                    world.superseded[device] = true;
                    world.wires[other][device].push(Message::Drop);
                }
            }
            Message::Drop => {
                if let Some((held, _)) = table.failed(c) {
                    world.opened[device].push(held);
                    world.wires[other][held].push(Message::Go);
                    table.end(held);
                }
            }
        }
        save(world, device, &table);
    }

    fn explore(world: World, ends: &mut usize) {
        let mut quiet = true;
        for device in 0..2 {
            for c in 0..2 {
                if world.wires[device][c].is_empty() {
                    continue;
                }
                quiet = false;
                let mut next = world.clone();
                let message = next.wires[device][c].remove(0);
                handle(&mut next, device, c, message);
                explore(next, ends);
            }
        }
        if quiet {
            *ends += 1;
            assert_eq!(world.opened[0].len(), 1, "exactly one connection at the one: {:?}", world.opened);
            assert_eq!(world.opened[0], world.opened[1], "and the same at the other");
            let winner = world.opened[0][0];
            assert_eq!(world.superseded, [winner == 1, winner == 0], "the other dial is superseded");
        }
    }

    #[test]
    fn in_every_order_of_messages_exactly_one_dial_wins() {
        let mut world = World {
            wires: Default::default(),
            ours: [Some(Phase::Asking); 2],
            theirs: [false; 2],
            opened: Default::default(),
            superseded: [false; 2],
        };
        world.wires[1][0].push(Message::Ask);
        world.wires[0][1].push(Message::Ask);
        let mut ends = 0;
        explore(world, &mut ends);
        assert!(ends > 10, "{ends} orders");
    }

    #[test]
    fn a_dial_that_comes_to_nothing_does_not_stand_in_the_way() {
        let (me, peer) = (PeerId::from_bytes([2; 32]), PeerId::from_bytes([1; 32]));
        let mut table = Crossing::new(me);
        table.dial(1, peer, "ours");
        table.agree(2, peer, "theirs");
        assert_eq!(table.agreed(1), Turn::Hold);
        assert_eq!(table.failed(2), Some((1, peer)));
        assert_eq!(table.end(1), Some("ours"));
        assert_eq!(table.agreed(1), Turn::Unknown);
    }
}
