//! What goes through neighbours: sealed, handed over, opened.
//!
//! An envelope has as many bytes as a real one and says nothing: what is in it stays with the
//! simulator, which gives it to the device that it was sealed for and to nobody else.

use bytes::Bytes;
use byway_api::{Handoff, PeerId, RelayErrorKind, Sealed};
use byway_core::OpId;
use byway_core::io::{AskError, In, Letter, OpenedLetter};
use byway_wire::{Frame, RelayStatus, VerifiedRecord, limits};

use super::node::Asked;
use super::world::World;

/// Marks the envelope of a letter; smaller ones are signals.
const LETTER: u8 = 2;
/// What sealing adds to a body.
const SEALING: usize = 300;

/// What is in one envelope.
#[derive(Debug)]
pub(super) struct Inside {
    from: usize,
    to: PeerId,
    letter: Letter,
    sender: VerifiedRecord,
    /// The sender's record is in it.
    introduced: bool,
}

impl World {
    pub(super) fn seal_letter(&mut self, place: usize, op: OpId, to: PeerId, letter: Letter, introduced: bool) {
        let number = self.letters.len() as u64;
        let size = SEALING
            + match &letter {
                Letter::Message(message) => message.body.len(),
                Letter::Receipts(receipts) => receipts.messages.len() * 18,
            };
        let mut envelope = vec![0; size];
        envelope[0] = LETTER;
        envelope[1..9].copy_from_slice(&number.to_be_bytes());
        let n = &self.nodes[place];
        let sender = self.records.get(&(n.peer, n.record_seq())).cloned();
        let sender = sender.unwrap_or_else(|| unreachable!("every node has a record"));
        self.letters.push(Inside { from: place, to, letter, sender, introduced });
        let wait = self.random.between(0, 3);
        self.tell(place, wait, In::Sealed { op, result: Ok(Sealed { to, envelope: Bytes::from(envelope) }) });
    }

    fn inside(&self, mail: &Sealed) -> Option<&Inside> {
        if mail.envelope.first() != Some(&LETTER) {
            return None;
        }
        let number = u64::from_be_bytes(mail.envelope.get(1..9)?.try_into().ok()?);
        self.letters.get(usize::try_from(number).ok()?)
    }

    /// An envelope that the core hands to the shell.
    pub(super) fn mail(&mut self, at: usize, op: OpId, hop: PeerId, mail: &Sealed) {
        if mail.to != self.nodes[at].peer {
            self.violation(at, "got mail for somebody else");
        }
        let wait = self.random.between(1, 3);
        let Some(inside) = self.inside(mail) else {
            self.mailed_signal(at, hop, mail);
            self.tell(at, wait, In::Opened { op, letter: None });
            return;
        };
        let peer = inside.sender.peer();
        let known = self.nodes[at].core.as_ref().is_some_and(|core| core.record(&peer).is_some());
        let letter = (inside.introduced || known)
            .then(|| Box::new(OpenedLetter { sender: inside.sender.clone(), letter: inside.letter.clone() }));
        if let Some(Letter::Message(message)) = letter.as_ref().map(|l| &l.letter) {
            let id = message.message;
            self.arrived_at(at, &id);
        }
        self.tell(at, wait, In::Opened { op, letter });
    }

    /// The relay plugin of a node hands an envelope over, as the built-in one does.
    pub(super) fn relay_letter(&mut self, place: usize, op: OpId, hop: PeerId, mail: Sealed) {
        let request = self.ask_core(place, Asked::Handed(op));
        self.tell(place, 0, In::Forward { op: request, hop, mail });
    }

    /// What came of it.
    pub(super) fn handed(&mut self, place: usize, op: OpId, answer: Result<RelayStatus, AskError>) {
        let result = match answer {
            Ok(RelayStatus::Forwarded) => Ok(Handoff::Forwarded),
            Ok(RelayStatus::NotConnected) => Err(RelayErrorKind::NotConnected),
            Ok(RelayStatus::Quota) => Err(RelayErrorKind::Quota),
            Ok(RelayStatus::Refused) => Err(RelayErrorKind::Refused),
            Ok(_) => Err(RelayErrorKind::TooLarge),
            Err(AskError::NotConnected) => Err(RelayErrorKind::NotNeighbour),
            Err(AskError::Busy) => Err(RelayErrorKind::Busy),
            Err(_) => Err(RelayErrorKind::Timeout),
        };
        self.tell(place, 0, In::Relayed { op, result });
    }

    /// What a core writes to a neighbour: nothing that only somebody else may read, and of every sender
    /// no more than its quota.
    pub(super) fn check_written(&mut self, place: usize, far: usize, frame: &Frame) {
        match frame {
            Frame::Direct(message) if self.addressee(&message.message).is_some_and(|to| to != self.nodes[far].user) => {
                self.violation(place, &format!("wrote a message in the clear to n{far}, which it is not for"));
            }
            Frame::Relay(relay) => {
                let Some(inside) = self.inside(&relay.mail) else { return };
                let (from, to, bytes) = (inside.from, inside.to, relay.mail.envelope.len());
                if from == place {
                    return;
                }
                if to != self.nodes[far].peer {
                    self.violation(place, &format!("passed an envelope on to n{far}, which it is not for"));
                }
                let now = self.now;
                let passed = &mut self.nodes[place].passed_on;
                passed.retain(|(at, ..)| at + 1_000 > now);
                passed.push_back((now, from, bytes));
                let second: usize = passed.iter().filter(|(_, f, _)| *f == from).map(|(.., b)| b).sum();
                if second > 2 * limits::RELAY_RATE {
                    self.violation(place, &format!("passed on {second} bytes of n{from} in a second"));
                }
            }
            _ => {}
        }
    }
}
