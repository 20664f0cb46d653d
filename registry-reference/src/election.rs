//! Whom the registry asks to coordinate when too few do: a hint, never an office.

use byway_api::{NetworkId, PeerId, WallTime};
use sha2::{Digest, Sha256};

use crate::backend::Standing;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How many coordinators a network of `members` should have.
pub(crate) const fn target(members: usize) -> usize {
    let wanted = members.div_ceil(50);
    if wanted < 2 {
        2
    } else if wanted > 8 {
        8
    } else {
        wanted
    }
}

/// Which volunteers to ask, best first. The rank is that by which members appoint themselves, so that
/// both come to the same ones: hash(network, day, key).
pub(crate) fn elect(
    network: &NetworkId,
    standing: &Standing,
    reachable: impl Fn(&PeerId) -> bool,
    now: WallTime,
) -> Vec<PeerId> {
    let missing = target(standing.members).saturating_sub(standing.coordinators.len());
    let day = now.as_millis().div_euclid(DAY_MS);
    let mut candidates: Vec<_> = standing
        .volunteers
        .iter()
        .map(|(peer, _)| *peer)
        .filter(|peer| !standing.coordinators.contains(peer) && reachable(peer))
        .map(|peer| (rank(network, day, &peer), peer))
        .collect();
    candidates.sort_unstable();
    candidates.into_iter().take(missing).map(|(_, peer)| peer).collect()
}

fn rank(network: &NetworkId, day: i64, peer: &PeerId) -> [u8; 32] {
    Sha256::new()
        .chain_update(network.as_str())
        .chain_update(day.to_be_bytes())
        .chain_update(peer.as_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn two_to_eight_by_size() {
        let targets: Vec<_> = [0, 1, 100, 101, 150, 400, 401, 100_000].map(target).into();
        assert_eq!(targets, [2, 2, 2, 3, 3, 8, 8, 8]);
    }

    #[test]
    fn only_the_missing_are_asked_and_only_who_can_be_reached() {
        let network = NetworkId::new("n").unwrap();
        let standing = Standing {
            members: 120,
            coordinators: vec![peer(1)],
            volunteers: (1..=6).map(|n| (peer(n), 64)).collect(),
        };
        let now = WallTime::from_millis(1_795_000_000_000);
        let elected = elect(&network, &standing, |p| *p != peer(2), now);
        assert_eq!(elected.len(), 2);
        assert!(!elected.contains(&peer(1)) && !elected.contains(&peer(2)));
        assert_eq!(elected, elect(&network, &standing, |p| *p != peer(2), now), "no chance in it");
        let enough = Standing { coordinators: (1..=3).map(peer).collect(), ..standing };
        assert!(elect(&network, &enough, |_| true, now).is_empty());
    }
}
