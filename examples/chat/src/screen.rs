//! What is printed, and what has to be remembered for that.

use std::collections::{BTreeMap, VecDeque};

use byway::{Delivery, Event, Message, MessageId, Roster, Sent, UserId};

/// Messages whose ticks are still shown when they move on.
const REMEMBERED: usize = 100;

/// The terminal.
#[derive(Default)]
pub(crate) struct Screen {
    partner: Option<String>,
    paths: BTreeMap<UserId, String>,
    sent: VecDeque<(MessageId, String, Delivery)>,
}

impl Screen {
    /// With whom we last spoke.
    pub(crate) fn partner(&self) -> Option<String> {
        self.partner.clone()
    }

    /// Prints the members whose status or path has changed.
    pub(crate) fn members(&mut self, roster: &Roster) {
        for member in roster {
            let line = format!("{} {}  {}", member.status(), member.user, member.path());
            if self.paths.get(&member.user) != Some(&line) {
                println!("{line}");
                self.paths.insert(member.user.clone(), line);
            }
        }
    }

    /// Prints an incoming message.
    pub(crate) fn message(&mut self, message: &Message) {
        let text = message.text().map_or_else(|| format!("({} bytes)", message.bytes().len()), str::to_owned);
        println!("{}: {text}", message.from());
        self.partner = Some(message.from().to_string());
    }

    /// Prints a message of ours, and remembers it for its ticks.
    pub(crate) fn sent(&mut self, user: &str, text: &str, sent: &Sent) {
        self.partner = Some(user.to_owned());
        let label = format!("to {user}: {}", text.chars().take(40).collect::<String>());
        println!("… {label}");
        self.sent.push_back((sent.id(), label, Delivery::Sending));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        self.moved(sent.id(), sent.status());
    }

    /// Prints what has happened, if that is of interest.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Delivery { message, delivery, .. } => self.moved(*message, *delivery),
            Event::LocalFault => println!("! We are offline. Messages wait."),
            Event::IdentityConflict { user, .. } => println!("! Another device says it is {user}; it gets nothing."),
            Event::IdentityInUse { .. } => println!("! Another process uses this profile's keys."),
            Event::StoreFailed(kind) => println!("! The store has failed: {kind:?}."),
            _ => {}
        }
    }

    fn moved(&mut self, message: MessageId, delivery: Delivery) {
        let Some((_, label, seen)) = self.sent.iter_mut().find(|(id, ..)| *id == message) else { return };
        if delivery > *seen {
            *seen = delivery;
            println!("{} {label}", tick(delivery));
        }
    }
}

fn tick(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Relayed => "→",
        Delivery::Delivered => "✓",
        Delivery::Read => "✓✓",
        Delivery::Expired => "✗ expired",
        _ => "…",
    }
}
