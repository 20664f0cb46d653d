//! A disk below the store: it remembers what was not synced, forgets any part of it at a power cut, and
//! fails at the call it is told to.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use byway_api::StoreError;
use byway_store_redb::{RedbConfig, RedbStore};
use redb::StorageBackend;

use crate::common::Random;

/// What happened, in order.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write {
        at: usize,
        data: Vec<u8>,
    },
    SetLen(usize),
    Sync,
    Acknowledged(u64),
    /// From here on nothing is promised of it any more.
    Forgotten(u64),
}

/// What a call asks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Len,
    Read,
    Write,
    SetLen,
    Sync,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    history: Vec<Event>,
    calls: Vec<Call>,
    fails: Option<(Fault, io::ErrorKind)>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The call of this number.
    At(usize),
    /// The next one of this kind.
    Next(Call),
}

/// A clone is the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    /// It fails once, at this call from now.
    pub(crate) fn fail_at(&self, call: usize, kind: io::ErrorKind) {
        let mut state = self.state();
        let call = state.calls.len() + call;
        state.fails = Some((Fault::At(call), kind));
    }

    /// It fails once, at the next call of this kind.
    pub(crate) fn fail_next(&self, call: Call, kind: io::ErrorKind) {
        self.state().fails = Some((Fault::Next(call), kind));
    }

    pub(crate) fn heal(&self) {
        self.state().fails = None;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub(crate) fn history(&self) -> Vec<Event> {
        self.state().history.clone()
    }

    pub(crate) fn tell(&self, event: Event) {
        self.state().history.push(event);
    }

    pub(crate) fn open(&self, config: RedbConfig) -> Result<RedbStore, StoreError> {
        let disk = self.clone();
        RedbStore::open_storage("the disk", move || Ok(Box::new(disk.clone())), config)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn called(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let number = state.calls.len();
        state.calls.push(call);
        let fails = match state.fails {
            Some((Fault::At(at), kind)) if at == number => kind,
            Some((Fault::Next(next), kind)) if next == call => kind,
            _ => return Ok(state),
        };
        state.fails = None;
        Err(fails.into())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.called(Call::Len)?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.called(Call::Read)?;
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(state.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.called(Call::SetLen)?;
        let event = Event::SetLen(usize::try_from(len).unwrap());
        change(&mut state.bytes, &event);
        state.history.push(event);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.called(Call::Sync)?.history.push(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.called(Call::Write)?;
        let event = Event::Write { at: usize::try_from(offset).unwrap(), data: data.to_vec() };
        change(&mut state.bytes, &event);
        state.history.push(event);
        Ok(())
    }
}

fn change(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { at, data } => {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Event::SetLen(len) => bytes.resize(*len, 0),
        Event::Sync | Event::Acknowledged(_) | Event::Forgotten(_) => {}
    }
}

/// What a power cut leaves.
pub(crate) struct Cut {
    pub(crate) bytes: Vec<u8>,
    pub(crate) acknowledged: BTreeSet<u64>,
}

/// The disk after these events and a cut. `syncs`: whether syncs count.
pub(crate) fn cut(events: &[Event], syncs: bool, random: &mut Random) -> Cut {
    let mut bytes = Vec::new();
    let mut pending = Vec::new();
    let mut acknowledged = BTreeSet::new();
    for event in events {
        match event {
            Event::Sync if syncs => pending.drain(..).for_each(|event| change(&mut bytes, event)),
            Event::Sync => {}
            Event::Acknowledged(n) => drop(acknowledged.insert(*n)),
            Event::Forgotten(n) => drop(acknowledged.remove(n)),
            Event::Write { .. } | Event::SetLen(_) => pending.push(event),
        }
    }
    match random.below(4) {
        0 => {}
        1 => pending.into_iter().for_each(|event| change(&mut bytes, event)),
        2 => {
            let kept = random.place(pending.len());
            pending.into_iter().take(kept).for_each(|event| change(&mut bytes, event));
        }
        _ => pending.into_iter().for_each(|event| survive(&mut bytes, event, random)),
    }
    Cut { bytes, acknowledged }
}

/// An unsynced change comes to the disk, or does not, or some sectors of it do.
fn survive(bytes: &mut Vec<u8>, event: &Event, random: &mut Random) {
    const SECTOR: usize = 512;
    match (random.below(4), event) {
        (0 | 1, _) => change(bytes, event),
        (2, Event::Write { at, data }) => {
            for (n, sector) in data.chunks(SECTOR).enumerate().filter(|_| random.below(2) == 0) {
                change(bytes, &Event::Write { at: at + n * SECTOR, data: sector.to_vec() });
            }
        }
        _ => {}
    }
}
