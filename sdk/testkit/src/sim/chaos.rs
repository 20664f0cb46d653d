//! Faults as they begin and end, and the healing.

use byway_core::io::In;

use super::node::Asked;
use super::plan::{Fault, Weather};
use super::world::{Event, World};

impl World {
    pub(super) fn fault(&mut self, index: usize) {
        if self.healed.is_some() {
            return;
        }
        let Some((_, fault)) = self.plan.faults.get(index).cloned() else { return };
        self.stats.faults += 1;
        self.trace.note(self.now, usize::MAX, "fault", [index as u64, 0]);
        self.trace.say(self.now, index, || format!("FAULT {fault}"));
        let id = index as u64;
        match fault.clone() {
            Fault::Crash { node, down } => {
                self.kill(node);
                self.after(down, Event::Boot(node));
            }
            Fault::RelayCrash { down } => self.relay_crash(down),
            Fault::Quit { node, down } => {
                if self.nodes[node].core.is_some() && !self.nodes[node].quitting {
                    self.nodes[node].quitting = true;
                    self.tell(node, 0, In::Shutdown);
                    let flushed = self.random.between(100, 3_000);
                    let life = u64::from(self.nodes[node].life);
                    self.after(flushed, Event::Over(fault, life));
                    self.after(flushed + down, Event::Boot(node));
                }
            }
            Fault::Partition { apart, lasts } => {
                for place in 0..self.nodes.len() {
                    self.disturb(place);
                }
                self.cuts.push(apart);
                self.restall();
                self.drop_sockets();
                self.after(lasts, Event::Over(fault, id));
            }
            Fault::RegistryDown { lasts } => {
                self.registry.up = false;
                self.drop_sockets();
                self.after(lasts, Event::Over(fault, id));
            }
            Fault::RegistrySlow { lasts } => {
                self.registry.slow = true;
                self.after(lasts, Event::Over(fault, id));
            }
            Fault::DiskFull { node, lasts, in_thousand } => {
                self.nodes[node].disk_full = in_thousand;
                self.after(lasts, Event::Over(fault, id));
            }
            Fault::SlowStore { node, lasts, up_to } => {
                self.nodes[node].slow_store = up_to;
                self.after(lasts, Event::Over(fault, id));
            }
            Fault::Clock { node, by, lasts } => {
                self.disturb(node);
                self.nodes[node].wall_offset = by;
                self.after(lasts, Event::Over(fault, id));
            }
            Fault::Suspend { node, lasts } => {
                let n = &mut self.nodes[node];
                if n.core.is_some() && !n.suspended && !n.quitting {
                    n.suspended = true;
                    self.tell(node, 0, In::Suspend);
                    let life = u64::from(self.nodes[node].life);
                    self.after(lasts, Event::Over(fault, life));
                }
            }
            Fault::Sleep { node, lasts } => {
                if self.nodes[node].core.is_some() {
                    let lasts = lasts.min(self.config.chaos_ms().saturating_sub(self.now));
                    self.nodes[node].asleep_until = self.now + lasts;
                    self.after(lasts, Event::Over(fault, id));
                }
            }
            Fault::NetworkChange { node } => self.network_change(node),
            Fault::Break { node } => {
                let of = |p: &super::pipes::Pipe| p.ends.iter().any(|e| e.node == node);
                let ids: Vec<_> = self.pipes.iter().filter(|(_, p)| of(p)).map(|(id, _)| *id).collect();
                for id in ids {
                    self.break_pipe(id);
                }
            }
        }
    }

    fn network_change(&mut self, node: usize) {
        if self.nodes[node].core.is_some() {
            let record = self.sign_record(node);
            self.disturb(node);
            self.tell(node, 0, In::Me(record));
            self.tell(node, 0, In::NetworkChanged);
        }
    }

    pub(super) fn fault_over(&mut self, fault: Fault, id: u64) {
        match fault {
            Fault::Quit { node, .. } if self.nodes[node].quitting && u64::from(self.nodes[node].life) == id => {
                self.nodes[node].quitting = false;
                self.kill(node);
            }
            Fault::Partition { apart, .. } => {
                if let Some(at) = self.cuts.iter().position(|c| *c == apart) {
                    self.cuts.remove(at);
                    for place in 0..self.nodes.len() {
                        self.disturb(place);
                    }
                    self.restall();
                }
            }
            Fault::RegistryDown { .. } if self.healed.is_none() => self.registry.up = true,
            Fault::RegistrySlow { .. } => self.registry.slow = false,
            Fault::DiskFull { node, .. } => {
                self.nodes[node].disk_full = 0;
                self.disturb(node);
            }
            Fault::SlowStore { node, .. } => {
                self.nodes[node].slow_store = 0;
                self.disturb(node);
            }
            Fault::Clock { node, .. } => {
                self.nodes[node].wall_offset = 0;
                self.disturb(node);
            }
            Fault::Suspend { node, .. } if self.nodes[node].suspended && u64::from(self.nodes[node].life) == id => {
                self.nodes[node].suspended = false;
                self.disturb(node);
                self.tell(node, 0, In::Resume);
            }
            Fault::Sleep { node, .. } => self.disturb(node),
            _ => {}
        }
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.healed = Some(self.now);
        self.trace.note(self.now, usize::MAX, "heal", [0, 0]);
        self.trace.say(self.now, 0, || "HEALED".into());
        self.weather = Weather::CALM;
        self.cuts.clear();
        self.registry.up = !self.plan.registry_dies;
        self.registry.slow = false;
        for place in 0..self.nodes.len() {
            let n = &mut self.nodes[place];
            n.disk_full = 0;
            n.slow_store = 0;
            n.wall_offset = 0;
            n.calm_since = self.now;
            if n.quitting {
                self.kill(place);
            } else if std::mem::take(&mut n.suspended) {
                self.tell(place, 0, In::Resume);
            }
            let wait = self.random.between(0, 1_000);
            self.after(wait, Event::Boot(place));
        }
        self.restall();
        self.drop_sockets();
    }

    /// What an app asked for and has no answer to.
    pub(super) fn open_requests(&self, place: usize, older_than: u64) -> Vec<String> {
        let until = self.now.saturating_sub(older_than);
        let asked = self.nodes[place].asked.iter().filter(|(_, (_, at))| *at <= until);
        asked
            .map(|(op, (asked, at))| match asked {
                Asked::Send(message) => format!("{op:?}: send of {message:?} at {at} ms"),
                other => format!("{op:?}: {other:?} at {at} ms"),
            })
            .collect()
    }
}
