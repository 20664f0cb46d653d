//! The member list: who is there, and by which path.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use byway_api::{PeerId, Trust, UserId};
use byway_core::link::LinkState;
use byway_core::view::{self, Reach};
use tokio::sync::watch;

use crate::engine::Lifeline;

/// What a member list shows in one sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Status {
    /// 🟢 Connected to us.
    Direct,
    /// 🟡 Online, but not connected to us.
    Online,
    /// ⚫ Offline as far as we know.
    Offline,
}

impl Status {
    /// 🟢, 🟡 or ⚫.
    pub const fn icon(self) -> &'static str {
        match self {
            Self::Direct => "🟢",
            Self::Online => "🟡",
            Self::Offline => "⚫",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.icon())
    }
}

/// One member of the network. Shown as `🟡 carol  Online via bob`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// How the member can be reached: the best over its devices.
    pub reach: Reach,
    /// How sure it is that the devices are the user's.
    pub trust: Trust,
    /// State of the best link to it.
    pub link: LinkState,
    /// Its devices.
    pub devices: Vec<PeerId>,
    /// We have blocked it.
    pub blocked: bool,
}

impl Member {
    /// The member's sign.
    pub const fn status(&self) -> Status {
        match self.reach {
            Reach::Direct { .. } => Status::Direct,
            Reach::Via { .. } | Reach::Online { .. } => Status::Online,
            _ => Status::Offline,
        }
    }

    /// The path in words: `Connected over webrtc`, `Online via bob`, `Online`, `Offline`. It changes only
    /// when the path does.
    pub fn path(&self) -> String {
        let path = match &self.reach {
            Reach::Direct { transport, .. } => format!("Connected over {transport}"),
            Reach::Via { user, .. } => format!("Online via {user}"),
            Reach::Online { .. } => "Online".to_owned(),
            Reach::Offline { last_seen: None } => "Offline, never seen".to_owned(),
            _ => "Offline".to_owned(),
        };
        if self.blocked { format!("{path} (blocked)") } else { path }
    }

    /// The last measured round trip of a direct connection.
    pub const fn rtt(&self) -> Option<Duration> {
        match self.reach {
            Reach::Direct { rtt, .. } => rtt,
            _ => None,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}  {}", self.status(), self.user, self.path())?;
        self.rtt().map_or(Ok(()), |rtt| write!(f, ", {}", Span(rtt)))
    }
}

impl From<view::MemberView> for Member {
    fn from(view: view::MemberView) -> Self {
        let view::MemberView { user, reach, trust, link, devices, blocked } = view;
        Self { user, reach, trust, link, devices, blocked }
    }
}

/// The member list at one moment, without ourselves.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Roster {
    /// The members, by name.
    pub members: Vec<Member>,
    /// Our own network is down: the list is frozen as it was.
    pub frozen: bool,
}

impl Roster {
    /// One member, if known.
    pub fn get(&self, user: impl AsRef<str>) -> Option<&Member> {
        self.members.binary_search_by(|m| m.user.as_str().cmp(user.as_ref())).ok().map(|at| &self.members[at])
    }

    /// The members, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.members.iter()
    }
}

impl<'a> IntoIterator for &'a Roster {
    type Item = &'a Member;
    type IntoIter = std::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frozen {
            f.write_str("(we are offline)\n")?;
        }
        self.members.iter().try_for_each(|member| writeln!(f, "{member}"))
    }
}

impl From<view::Roster> for Roster {
    fn from(view: view::Roster) -> Self {
        Self { members: view.members.into_iter().map(Member::from).collect(), frozen: view.frozen }
    }
}

/// Watches the member list. Changes are coalesced: only the newest list counts.
#[derive(Clone, Debug)]
pub struct Members {
    watch: watch::Receiver<Arc<Roster>>,
    lifeline: Lifeline,
}

impl Members {
    pub(crate) const fn new(watch: watch::Receiver<Arc<Roster>>, lifeline: Lifeline) -> Self {
        Self { watch, lifeline }
    }

    /// The list now. It counts as seen for [`Self::changed`].
    pub fn current(&mut self) -> Arc<Roster> {
        Arc::clone(&self.watch.borrow_and_update())
    }

    /// Waits for a list that was not seen yet; `None` once the node has stopped.
    ///
    /// Cancel-safe: a change is not lost when the future is dropped.
    pub async fn changed(&mut self) -> Option<Arc<Roster>> {
        tokio::select! {
            biased;
            changed = self.watch.changed() => changed.ok()?,
            () = self.lifeline.ended() => return None,
        }
        Some(self.current())
    }

    /// Waits until `condition` holds for the list, which may be now; `None` once the node has stopped.
    ///
    /// Cancel-safe.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Roster) -> bool) -> Option<Arc<Roster>> {
        tokio::select! {
            biased;
            found = self.watch.wait_for(|roster| condition(roster)) => found.ok().map(|roster| Arc::clone(&roster)),
            () = self.lifeline.ended() => None,
        }
    }
}

/// A duration for people: three digits and a unit.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, unit) = match self.0.as_millis() {
            0 if self.0.is_zero() => return f.write_str("<1 ms"),
            0 => return write!(f, "{} us", self.0.as_micros()),
            ms @ 1..1_000 => (ms, "ms"),
            ms @ 1_000..100_000 => return write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            ms @ 100_000..7_200_000 => (ms / 60_000, "min"),
            ms => (ms / 3_600_000, "h"),
        };
        write!(f, "{whole} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway_core::view::Evidence;

    fn member(reach: Reach) -> Member {
        Member {
            user: UserId::new("carol").unwrap(),
            reach,
            trust: Trust::Unverified,
            link: LinkState::Disconnected,
            devices: Vec::new(),
            blocked: false,
        }
    }

    #[test]
    fn a_member_is_shown_with_its_sign_and_its_path() {
        let bob = UserId::new("bob").unwrap();
        let second = Duration::from_secs(1);
        for (reach, text) in [
            (
                Reach::Direct { transport: "webrtc", rtt: Some(Duration::from_millis(12)) },
                "🟢 carol  Connected over webrtc, 12 ms",
            ),
            (Reach::Direct { transport: "mem", rtt: None }, "🟢 carol  Connected over mem"),
            (Reach::Via { user: bob, peer: PeerId::from_bytes([1; 32]), age: second }, "🟡 carol  Online via bob"),
            (Reach::Online { evidence: Evidence::Registry, age: second }, "🟡 carol  Online"),
            (Reach::Offline { last_seen: None }, "⚫ carol  Offline, never seen"),
        ] {
            assert_eq!(member(reach).to_string(), text);
        }
    }

    #[test]
    fn a_blocked_member_says_so() {
        let mut carol = member(Reach::Offline { last_seen: None });
        carol.blocked = true;
        assert!(carol.to_string().ends_with("(blocked)"));
    }

    #[test]
    fn spans_have_a_fitting_unit() {
        let ms = Duration::from_millis;
        for (span, text) in [
            (Duration::ZERO, "<1 ms"),
            (Duration::from_micros(30), "30 us"),
            (ms(999), "999 ms"),
            (ms(1_250), "1.2 s"),
            (ms(120_000), "2 min"),
            (ms(7_200_000), "2 h"),
        ] {
            assert_eq!(Span(span).to_string(), text);
        }
    }
}
