//! The one loop of a node. It awaits nothing but its own inputs: everything that takes time is a task
//! whose end is an input.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use byway_api::{DiscoveryStep, MessageId, PeerId, StoreError, Write};
use byway_core::io::{AskError, FoundRoute, In, InboxItem, Out, Up};
use byway_core::status::Delivery;
use byway_core::{ConnId, NodeCore, Now, OpId, Tick};
use byway_wire::{Frame, RelayStatus, limits};
use tokio::sync::{Notify, mpsc, oneshot};

use super::connection::{Arrival, CREDIT, Outbound};
use super::dial::Dialer;
use super::handshake::Established;
use super::keeper::Wakes;
use super::ops::{Ended, Ops};
use super::runtime::timeout;
use super::shared::{InboxRoom, Notice, Shared, Ways, seq_write};
use super::signals::Mail;
use super::status::Watched;
use super::store::{StoreQueue, Stored};
use super::{Command, CommandError, MessageStatus, connection, endpoints};

/// The driver's ends of all queues.
pub(super) struct Queues {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) stored: mpsc::Receiver<Stored>,
    pub(super) arrivals_to: mpsc::Sender<Arrival>,
    pub(super) mail: mpsc::Sender<Mail>,
    pub(super) inbox: mpsc::Sender<InboxItem>,
}

/// Who waits for the core's answer to a request.
pub(super) enum Pending {
    Send { message: MessageId, status: MessageStatus },
    Done(oneshot::Sender<Result<(), CommandError>>),
    Ask(oneshot::Sender<Result<Vec<FoundRoute>, AskError>>),
    Forward(oneshot::Sender<Result<RelayStatus, AskError>>),
}

/// A connection as the driver sees it.
pub(super) struct Line {
    pub(super) outbound: Arc<Outbound>,
    /// Frames of this turn.
    pub(super) staged: Vec<Frame>,
}

/// A shutdown under way.
#[derive(Default)]
pub(super) struct Stopping {
    pub(super) until: Tick,
    pub(super) replies: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

/// Runs the core and carries out what it wants done.
pub(super) struct Driver {
    pub(super) core: NodeCore,
    pub(super) shared: Arc<Shared>,
    pub(super) dialer: Dialer,
    pub(super) steps: Arc<[Arc<dyn DiscoveryStep>]>,
    pub(super) queues: Queues,
    pub(super) ops: Ops,
    pub(super) store: Arc<StoreQueue>,
    pub(super) lines: BTreeMap<ConnId, Line>,
    pub(super) pending: HashMap<OpId, Pending>,
    pub(super) watched: Watched,
    /// Devices that are connecting to us, and until when we wait for them.
    pub(super) approached: BTreeMap<PeerId, Tick>,
    pub(super) room: Arc<InboxRoom>,
    pub(super) wake: Arc<Notify>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) now: Now,
    pub(super) out: Vec<Out>,
    /// Batches of this turn.
    pub(super) batches: Vec<(Option<OpId>, Vec<Write>)>,
    /// Inputs that came out of effects.
    pub(super) again: Vec<In>,
    pub(super) roster_changed: bool,
    pub(super) roster_at: Tick,
    pub(super) lines_changed: bool,
    pub(super) stopping: Option<Stopping>,
    last_op: u64,
    last_conn: u64,
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "called once, by the launch")]
    pub(super) fn new(
        core: NodeCore,
        dialer: Dialer,
        steps: Arc<[Arc<dyn DiscoveryStep>]>,
        queues: Queues,
        store: Arc<StoreQueue>,
        room: Arc<InboxRoom>,
        wake: Arc<Notify>,
        wakes: Arc<Wakes>,
    ) -> Self {
        let shared = Arc::clone(&dialer.shared);
        Self {
            core,
            ops: Ops::new(shared.runtime.clone()),
            now: shared.runtime.now(),
            shared,
            dialer,
            steps,
            queues,
            store,
            lines: BTreeMap::new(),
            pending: HashMap::new(),
            watched: Watched::default(),
            approached: BTreeMap::new(),
            room,
            wake,
            wakes,
            out: Vec::new(),
            batches: Vec::new(),
            again: Vec::new(),
            roster_changed: true,
            roster_at: Tick(0),
            lines_changed: false,
            stopping: None,
            last_op: 0,
            last_conn: 0,
        }
    }

    /// Runs until a shutdown is complete.
    pub(super) async fn run(mut self, inputs: Vec<In>, own: Vec<(Option<OpId>, Vec<Write>)>) {
        self.batches.extend(own);
        for input in inputs {
            self.feed(input);
        }
        loop {
            self.carry_out();
            if self.finished() {
                break;
            }
            self.wait().await;
            self.drain();
        }
        self.stop().await;
    }

    /// Tells the core something.
    pub(super) fn feed(&mut self, input: In) {
        self.core.handle(self.now, input, &mut self.out);
    }

    /// A new request of ours.
    pub(super) fn request(&mut self, pending: Pending) -> OpId {
        self.last_op += 1;
        let op = OpId(self.last_op);
        self.pending.insert(op, pending);
        op
    }

    /// Waits for the first input and takes it. What waits too is taken by [`Self::drain`].
    async fn wait(&mut self) {
        let open = self.store.has_room();
        let deadline = self.deadline();
        let Queues { commands, notices, arrivals, stored, .. } = &mut self.queues;
        tokio::select! {
            biased;
            Some(done) = stored.recv() => {
                self.tick();
                self.stored(done);
            }
            Some(notice) = notices.recv() => {
                self.tick();
                self.notice(notice);
            }
            (op, ended) = self.ops.next() => {
                self.tick();
                self.ended(op, ended);
            }
            command = commands.recv(), if open => {
                self.tick();
                match command {
                    Some(command) => self.command(command),
                    // Every handle is gone: the node is being aborted.
                    None => { self.stopping.get_or_insert_default(); }
                }
            }
            Some(arrival) = arrivals.recv(), if open => {
                self.tick();
                self.arrival(arrival);
            }
            () = self.wake.notified() => self.tick(),
            () = self.shared.runtime.sleep_until(deadline) => self.tick(),
        }
    }

    /// Takes what waits, so much of it as one turn may: completions first, and no source starves
    /// another.
    fn drain(&mut self) {
        let most = self.shared.settings.turn;
        for _ in 0..most {
            if let Ok(done) = self.queues.stored.try_recv() {
                self.stored(done);
            } else if let Ok(notice) = self.queues.notices.try_recv() {
                self.notice(notice);
            } else if let Some((op, ended)) = self.ops.try_next() {
                self.ended(op, ended);
            } else {
                break;
            }
        }
        self.collect_room();
        if self.store.has_room() {
            for _ in 0..most {
                let Ok(command) = self.queues.commands.try_recv() else { break };
                self.command(command);
            }
            let mut frames = 0;
            while frames < self.shared.settings.turn_frames
                && let Ok(arrival) = self.queues.arrivals.try_recv()
            {
                frames += arrival.weight();
                self.arrival(arrival);
            }
        }
        if self.core.deadline().is_some_and(|due| due <= self.now.tick) {
            self.feed(In::Wake);
        }
        let late: Vec<_> = self.approached.iter().filter(|(_, due)| **due <= self.now.tick).map(|(p, _)| *p).collect();
        for peer in late {
            self.withdrawn(peer);
        }
    }

    fn tick(&mut self) {
        self.now = self.shared.runtime.now();
    }

    fn deadline(&self) -> Option<Tick> {
        let roster = self.roster_changed.then_some(self.roster_at);
        let stopping = self.stopping.as_ref().map(|stopping| stopping.until);
        let approached = self.approached.values().min().copied();
        [self.core.deadline(), roster, stopping, approached].into_iter().flatten().min()
    }

    /// Slots that connections and the inbox queue have free again.
    fn collect_room(&mut self) {
        let taken = self.room.collect();
        if taken > 0 {
            self.feed(In::InboxRoom(taken));
        }
        for (&conn, line) in &self.lines {
            if let Some(credit) = line.outbound.collect() {
                let (control, data, bytes) = (credit.control, credit.data, credit.bytes);
                self.core.handle(self.now, In::Credit { conn, control, data, bytes }, &mut self.out);
            }
        }
    }

    fn stored(&mut self, stored: Stored) {
        for (op, result) in stored {
            self.feed(In::Stored { op, result });
        }
    }

    fn arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Frames(conn, frames) => {
                for frame in frames {
                    self.feed(In::Frame { conn, frame });
                }
            }
            Arrival::Protocol(conn) => self.feed(In::Protocol { conn }),
            Arrival::Down(conn, code) => {
                self.lines.remove(&conn);
                self.lines_changed = true;
                self.feed(In::Down { conn, code });
            }
        }
    }

    fn ended(&mut self, op: OpId, ended: Ended) {
        // What a task said before it ended comes before its end.
        while let Ok(notice) = self.queues.notices.try_recv() {
            self.notice(notice);
        }
        match ended {
            Ended::Dialed(Ok(established)) => {
                self.up(*established, Some(op));
                self.feed(In::Dialed { op, result: Ok(()) });
            }
            Ended::Dialed(Err(error)) => self.feed(In::Dialed { op, result: Err(error) }),
            Ended::Run(outcome) => self.feed(In::StepEnded { op, outcome }),
            Ended::Browsed(outcome) => self.feed(In::BrowseEnded { op, outcome }),
            Ended::Announced(ok) => self.feed(In::Announced { op, ok }),
            Ended::Loaded(result) => self.feed(In::LoadedPage { op, result }),
            Ended::Sealed(result) => self.feed(In::Sealed { op, result }),
            Ended::Relayed(result) => self.feed(In::Relayed { op, result }),
        }
    }

    /// A connection passed Hello.
    fn up(&mut self, established: Established, dialed: Option<OpId>) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let peer = established.hello.peer;
        self.approached.remove(&peer);
        let outbound = Outbound::new(Arc::clone(&self.wake));
        connection::start(&self.shared, conn, &established, &outbound, self.queues.arrivals_to.clone());
        self.lines.insert(conn, Line { outbound, staged: Vec::new() });
        self.lines_changed = true;
        tracing::debug!(target: "byway::link", ?conn, peer = %peer.short(), transport = established.transport, "up");
        let Established { hello, path, rank, transport, .. } = established;
        let up = Up { conn, hello, dialed, rank, transport, kind: path.kind, path: path.remote, credit: CREDIT };
        self.feed(In::Up(Box::new(up)));
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Found { op, route } => self.feed(In::Found { op, route }),
            Notice::Sighting(route) => self.feed(In::Sighting(route)),
            Notice::Answering { op } => self.feed(In::Answering { op }),
            Notice::Accepted(established) if self.stopping.is_none() => self.up(*established, None),
            Notice::Accepted(_) => {}
            Notice::Withdrawn(peer) => self.withdrawn(peer),
            Notice::Shutdown { reply } => self.shut_down(reply),
            Notice::Me(record) => {
                self.batches.push((None, vec![seq_write(&record)]));
                self.feed(In::Me(record));
            }
            Notice::Ask { neighbour, user, reply } => {
                let op = self.request(Pending::Ask(reply));
                self.feed(In::Ask { op, neighbour, user });
            }
            Notice::Forward { hop, mail, reply } => {
                let op = self.request(Pending::Forward(reply));
                self.feed(In::Forward { op, hop, mail });
            }
            Notice::Opened { op, letter } => self.feed(In::Opened { op, letter }),
            Notice::Ways { to, reply } => {
                let record = self.core.record(&to).cloned();
                let _ = reply.send(Ways { record, neighbours: self.core.ways(self.now, &to) });
            }
            Notice::Admit { sender, back, offer, reply } => {
                let peer = sender.peer();
                let admitted = self.stopping.is_none() && self.core.admits(sender.user(), &peer);
                let _ = reply.send(admitted);
                if admitted {
                    let source = byway_core::io::RouteSource::Step;
                    let last_seen = Some(self.now.wall);
                    let route = FoundRoute { peer, address: back, record: Some(sender), last_seen, source };
                    self.feed(In::Sighting(route));
                    if offer && !self.core.is_linked(&peer) {
                        let wait = self.shared.settings.dial_wait + limits::HELLO_TIMEOUT;
                        if self.approached.insert(peer, self.now.tick.plus(wait)).is_none() {
                            self.feed(In::Approached { peer });
                        }
                    }
                }
            }
        }
    }

    fn withdrawn(&mut self, peer: PeerId) {
        if self.approached.remove(&peer).is_some() {
            self.feed(In::Withdrawn { peer });
        }
    }

    /// Begins a shutdown, or joins the one under way.
    fn shut_down(&mut self, reply: oneshot::Sender<Result<(), StoreError>>) {
        if let Some(stopping) = &mut self.stopping {
            stopping.replies.push(reply);
            return;
        }
        // What was asked for before the end is still taken.
        while let Ok(command) = self.queues.commands.try_recv() {
            self.command(command);
        }
        let until = self.now.tick.plus(self.shared.settings.shutdown_wait);
        self.stopping = Some(Stopping { until, replies: vec![reply] });
        self.feed(In::Shutdown);
        self.carry_out();
        for line in self.lines.values() {
            line.outbound.close(byway_api::CloseCode::LEAVING);
        }
        self.ops.cancel_all();
    }

    /// Everything said and stored, or out of time.
    fn finished(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let quiet = self.lines.is_empty()
            && self.ops.is_empty()
            && self.store.is_idle()
            && self.queues.stored.is_empty()
            && self.queues.arrivals.is_empty();
        quiet || self.now.tick >= stopping.until
    }

    /// Closes everything and ends every task.
    async fn stop(mut self) {
        let limit = self.shared.settings.shutdown_wait;
        self.ops.shutdown().await;
        endpoints::close(&self.shared, &self.dialer.bound, &self.dialer.signals).await;
        self.store.close();
        let _ = timeout(limit, async { while self.queues.stored.recv().await.is_some() {} }).await;
        let closed = match timeout(limit, self.shared.store.close()).await {
            Some(closed) => closed,
            None => {
                Err(StoreError::new(byway_api::StoreErrorKind::Io, self.shared.store.name(), "closing took too long"))
            }
        };
        if let Err(error) = &closed {
            tracing::error!(target: "byway::store", %error, "the store was not closed in order");
        }
        let mut replies = self.stopping.take().unwrap_or_default().replies;
        // The error goes to the first who asked.
        if !replies.is_empty() {
            let _ = replies.remove(0).send(closed);
        }
        for reply in replies {
            let _ = reply.send(Ok(()));
        }
        let runtime = self.shared.runtime.clone();
        drop(self);
        runtime.abort();
    }

    /// Where a message stands over all devices of its recipient.
    pub(super) fn stands(&self, message: &MessageId) -> Option<Delivery> {
        self.core.deliveries(message).into_iter().map(|device| device.delivery).max()
    }
}

impl Drop for Driver {
    /// Whoever waits for a message learns that nothing will come any more.
    fn drop(&mut self) {
        self.watched.stop();
        for pending in self.pending.values() {
            if let Pending::Send { status, .. } = pending {
                status.stop();
            }
        }
        self.queues.commands.close();
        while let Ok(command) = self.queues.commands.try_recv() {
            Self::refuse(command);
        }
    }
}
