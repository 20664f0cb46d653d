//! What the tour and its members say to each other: one JSON object per line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line to a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Its number; repeated in the answer.
    pub n: u64,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a member can be told to do. Each calls one public method of `byway`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// Send a text; answers its id once `send` has returned.
    Send {
        /// To whom.
        to: String,
        /// What.
        text: String,
    },
    /// Where a message stands; answers text.
    Status {
        /// Its id.
        id: String,
    },
    /// Wait until all of these are delivered.
    WaitDelivered {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Wait until it is read.
    WaitRead {
        /// Its id.
        id: String,
    },
    /// Connect to a user.
    Connect {
        /// To whom.
        to: String,
        /// For how long at most.
        within_ms: u64,
    },
    /// Say that a shown message was read.
    Read {
        /// Its id.
        id: String,
    },
    /// Say that the app is done with a shown message.
    Done {
        /// Its id.
        id: String,
    },
    /// Answers [`Numbers`].
    Metrics,
    /// Answers the explanation of the last lookup of a user, or null.
    Explain {
        /// The user.
        user: String,
    },
    /// From now on the pair does not connect, as far as this member has a say.
    Refuse {
        /// One device.
        a: String,
        /// The other one.
        b: String,
    },
    /// The pair may connect again.
    Allow {
        /// One device.
        a: String,
        /// The other one.
        b: String,
    },
    /// Answers an invite.
    Invite,
    /// Shut down in order, and end.
    Stop,
}

/// A line from a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// The node runs.
    Ready {
        /// Its device.
        peer: String,
    },
    /// A request was carried out.
    Done {
        /// Which.
        re: u64,
        /// Its result.
        ok: Value,
    },
    /// A request was not carried out.
    Failed {
        /// Which.
        re: u64,
        /// Why.
        error: String,
    },
    /// The inbox has shown a message.
    Message(Shown),
    /// The member list, after a change.
    Roster {
        /// All of it.
        members: Vec<Listed>,
    },
    /// An event of the node, as it prints.
    Event {
        /// In words.
        text: String,
    },
}

/// A message that was shown to the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// From whom.
    pub from: String,
    /// What it says.
    pub text: String,
    /// What it answers.
    pub reply_to: Option<String>,
}

/// A member, as its list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The user.
    pub user: String,
    /// 🟢, 🟡 or ⚫.
    pub icon: String,
    /// The path in words.
    pub path: String,
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}  {}", self.icon, self.user, self.path)
    }
}

/// Some of a node's metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Messages taken from the app.
    pub sent: u64,
    /// Of those, acknowledged by the recipient.
    pub delivered: u64,
    /// Messages received.
    pub received: u64,
    /// Messages received again.
    pub duplicates: u64,
    /// Connections made.
    pub connects: u64,
    /// Lookups that began.
    pub lookups: u64,
    /// Lookups that reached a metered step.
    pub lookups_metered: u64,
    /// Envelopes forwarded for others.
    pub relayed: u64,
    /// Calls to a registry.
    pub registry_calls: u64,
    /// Signals over a registry's socket.
    pub registry_signals: u64,
    /// Signals through a neighbour.
    pub neighbour_signals: u64,
    /// Signals over a listener.
    pub listener_signals: u64,
    /// Connections that did not prove to be a member's.
    pub handshakes_failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_flat_object() {
        let request = Request { n: 7, command: Command::Explain { user: "bob".into() } };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"n":7,"cmd":"explain","user":"bob"}"#);
        let back: Request = serde_json::from_str(r#"{"n":8,"cmd":"metrics"}"#).unwrap();
        assert!(matches!(back, Request { n: 8, command: Command::Metrics }));
    }

    #[test]
    fn a_number_and_a_message_id_are_kept_apart() {
        let request = Request { n: 7, command: Command::Done { id: "ab".into() } };
        let line = serde_json::to_string(&request).unwrap();
        let back: Request = serde_json::from_str(&line).unwrap();
        assert!(matches!(back, Request { n: 7, command: Command::Done { id } } if id == "ab"), "{line}");
    }
}
