//! The ladder's steps, as the plugins of `byway-discovery` do them.

use std::collections::BTreeMap;

use byway_api::{Load, PeerId, Row, SignalAddress, UserId};
use byway_core::OpId;
use byway_core::io::{AskError, FoundRoute, In, RouteSource, StepOutcome};

use super::node::{Asked, STEPS};
use super::registry::Call;
use super::world::{Do, World};

/// Neighbours that one lookup asks.
const ASK_AT_MOST: usize = 15;
/// Routes that the cache gives.
const RECALL: usize = 8;

/// A running step.
#[derive(Debug)]
pub(super) struct Run {
    /// Answers that it waits for.
    waiting: usize,
}

impl World {
    pub(super) fn run_step(&mut self, place: usize, op: OpId, step: usize, user: UserId) {
        if self.nodes[place].running.insert(op, Run { waiting: 0 }).is_some() {
            self.violation(place, &format!("{op:?} names two runs"));
        }
        match STEPS[step].name {
            "existing" => {
                for neighbour in self.neighbours(place).into_iter().filter(|n| n.user == user) {
                    let route = found(neighbour.peer, SignalAddress::through(neighbour.peer));
                    self.tell(place, 0, In::Found { op, route });
                }
                self.end_run(place, op, StepOutcome::Finished);
            }
            "neighbours" => self.ask_neighbours(place, op, &user),
            "cache" => {
                let wait = self.read_wait(place);
                self.at_node(place, wait, Do::Recall(op, user));
            }
            "registry" => self.call(place, Call::Find(op, user)),
            _ => self.end_run(place, op, StepOutcome::Finished),
        }
    }

    pub(super) fn cancel_run(&mut self, place: usize, op: OpId) {
        self.end_run(place, op, StepOutcome::Cancelled);
    }

    /// Ends a run, once.
    pub(super) fn end_run(&mut self, place: usize, op: OpId, outcome: StepOutcome) {
        if self.nodes[place].running.remove(&op).is_some() {
            self.tell(place, 0, In::StepEnded { op, outcome });
        }
    }

    fn neighbours(&self, place: usize) -> Vec<byway_api::Neighbour> {
        self.nodes[place].core.as_ref().map_or_else(Vec::new, |c| c.neighbours())
    }

    fn ask_neighbours(&mut self, place: usize, op: OpId, user: &UserId) {
        let neighbours: Vec<_> = self.neighbours(place).into_iter().take(ASK_AT_MOST).map(|n| n.peer).collect();
        if neighbours.is_empty() {
            self.end_run(place, op, StepOutcome::Finished);
            return;
        }
        if let Some(run) = self.nodes[place].running.get_mut(&op) {
            run.waiting = neighbours.len();
        }
        for neighbour in neighbours {
            let question = self.ask_core(place, Asked::Routes { run: op, neighbour });
            self.tell(place, 0, In::Ask { op: question, neighbour, user: user.clone() });
        }
    }

    /// A neighbour has answered, or not.
    pub(super) fn routes(
        &mut self,
        place: usize,
        op: OpId,
        neighbour: PeerId,
        answer: Result<Vec<FoundRoute>, AskError>,
    ) {
        let Some(run) = self.nodes[place].running.get_mut(&op) else { return };
        run.waiting -= 1;
        let last = run.waiting == 0;
        let through = SignalAddress::through(neighbour);
        let mut devices = BTreeMap::new();
        for route in answer.unwrap_or_default() {
            devices.insert(route.peer, (route.record.clone(), route.last_seen));
            self.tell(place, 0, In::Found { op, route });
        }
        devices.remove(&neighbour);
        for (peer, (record, last_seen)) in devices {
            let route = FoundRoute { record, last_seen, ..found(peer, through.clone()) };
            self.tell(place, 0, In::Found { op, route });
        }
        if last {
            self.end_run(place, op, StepOutcome::Finished);
        }
    }

    pub(super) fn recall(&mut self, place: usize, op: OpId, user: &UserId) {
        if !self.nodes[place].running.contains_key(&op) {
            return;
        }
        let user = Some(user.clone());
        let store = &self.nodes[place].store;
        let mut routes = store.load(&Load::Routes { user: user.clone() });
        routes.truncate(RECALL);
        let devices = self.nodes.iter().filter(|n| Some(&n.user) == user.as_ref()).map(|n| n.peer);
        let records: BTreeMap<_, _> = devices
            .filter_map(|peer| self.records.get(&(peer, store.record(&peer)?)))
            .map(|r| (r.peer(), r.clone()))
            .collect();
        for row in routes {
            let Row::Route(row) = row else { continue };
            let route = FoundRoute {
                peer: row.peer,
                address: row.address,
                record: records.get(&row.peer).cloned(),
                last_seen: Some(row.last_seen),
                source: RouteSource::Cache,
            };
            self.tell(place, 0, In::Found { op, route });
        }
        self.end_run(place, op, StepOutcome::Finished);
    }

    pub(super) fn browse(&mut self, place: usize, op: OpId, step: usize) {
        if STEPS[step].metered {
            self.call(place, Call::List(op));
        } else {
            self.tell(place, 0, In::BrowseEnded { op, outcome: StepOutcome::Finished });
        }
    }
}

const fn found(peer: PeerId, address: SignalAddress) -> FoundRoute {
    FoundRoute { peer, address, record: None, last_seen: None, source: RouteSource::Step }
}
