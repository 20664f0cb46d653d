//! What the app wants, as inputs of the core.

use std::time::Duration;

use byway_core::io::{In, SendCommand};
use byway_wire::limits;

use super::driver::{Driver, Pending};
use super::{Command, EngineMetrics, MessageStatus};

impl Driver {
    pub(super) fn command(&mut self, command: Command) {
        if self.stopping.is_some() {
            return Self::refuse(command);
        }
        match command {
            Command::Send { command, expires_in, status } => self.send(command, expires_in, status),
            Command::Status { message, reply } => {
                let status = self.stands(&message).map(|delivery| {
                    let status = MessageStatus::new();
                    status.answer(Ok(true));
                    status.advance(delivery);
                    self.watched.add(message, status.clone());
                    status
                });
                let _ = reply.send(status);
            }
            Command::Deliveries { message, reply } => {
                let _ = reply.send(self.core.deliveries(&message));
            }
            Command::Seek(user) => self.feed(In::Seek(user)),
            Command::Read { key, reply } => {
                let op = self.request(Pending::Done(reply));
                self.feed(In::Read { op, key });
            }
            Command::Done { key, reply } => {
                let op = self.request(Pending::Done(reply));
                self.feed(In::Done { op, key });
            }
            Command::Block { user, blocked, reply } => {
                let op = self.request(Pending::Done(reply));
                self.feed(In::Block { op, user, blocked });
            }
            Command::Trust { user, peer, reply } => {
                let op = self.request(Pending::Done(reply));
                self.feed(In::Trust { op, user, peer });
            }
            Command::Explain { user, reply } => {
                let _ = reply.send(self.core.explain(self.now, &user));
            }
            Command::Metrics { reply } => {
                let _ = reply.send(self.metrics());
            }
            Command::Suspend { reply } => {
                self.feed(In::Suspend);
                let _ = reply.send(());
            }
            Command::Resume { reply } => {
                self.feed(In::Resume);
                // Whatever slept with us has to look at the network anew.
                self.wakes.network.notify_one();
                let _ = reply.send(());
            }
            Command::NetworkChanged => {
                self.feed(In::NetworkChanged);
                self.wakes.network.notify_one();
            }
        }
    }

    /// Dropping the reply tells everybody else that the node stops.
    pub(super) fn refuse(command: Command) {
        if let Command::Send { status, .. } = command {
            status.stop();
        }
    }

    fn send(&mut self, mut command: Box<SendCommand>, expires_in: Duration, status: MessageStatus) {
        command.op = self.request(Pending::Send { message: command.message, status });
        command.expires_at = self.now.wall.plus(expires_in.min(limits::FUTURE_MAX));
        self.feed(In::Send(command));
    }

    fn metrics(&self) -> EngineMetrics {
        let counters = &self.shared.counters;
        EngineMetrics {
            core: self.core.metrics(),
            registry_calls: self.shared.meter.spent(),
            registry_refused: self.shared.meter.refused(),
            registry_signals: counters.registry_signals.get(),
            neighbour_signals: counters.neighbour_signals.get(),
            listener_signals: counters.listener_signals.get(),
            signals_received: counters.signals_received.get(),
            signals_dropped: counters.signals_dropped.get(),
            handshakes_failed: counters.handshakes_failed.get(),
            half_open_refused: counters.half_open_refused.get(),
            durable_commits: self.shared.store.durable_commits(),
        }
    }
}
