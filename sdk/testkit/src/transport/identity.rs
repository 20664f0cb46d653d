use byway_api::{BindingKind, PathKind, Security};

use super::fixture::TransportFixture;
use crate::promise::{Broken, Outcome, Verdict, ensure, within};

/// The name is a scheme, the longest frame is of use to a node, and nothing travels unprotected.
pub async fn capabilities_are_sound(fixture: &TransportFixture) -> Verdict {
    /// The node's own longest frame.
    const USEFUL_FRAME: usize = 65_536;
    for transport in fixture.transports() {
        let (name, caps) = (transport.name(), transport.caps());
        let scheme =
            !name.is_empty() && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
        ensure!(scheme, "the name {name:?} is not the scheme of an address");
        ensure!(name == transport.name() && caps == transport.caps(), "name and capabilities are constant");
        ensure!(caps.max_frame >= USEFUL_FRAME, "max_frame is {}; a node needs {USEFUL_FRAME}", caps.max_frame);
        ensure!(caps.security != Security::Insecure, "a node refuses a transport that protects nothing");
    }
    let [a, b] = fixture.transports();
    ensure!(a.caps().needs_signaling == b.caps().needs_signaling, "one needs signalling and the other does not");
    for pair in fixture.pairs().await? {
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// The binding is equal on both sides, different on every connection, 1 to 64 bytes long, and of a
/// kind that fits the transport's security.
pub async fn bindings_are_equal_and_unique(fixture: &TransportFixture) -> Verdict {
    let mut seen = Vec::new();
    for pair in fixture.pairs().await? {
        for _ in 0..3 {
            let (near, far) = pair.connect().await?;
            let (binding, other) = (near.binding(), far.binding());
            ensure!(binding == other, "the sides disagree: {:?} and {:?}", binding.bytes, other.bytes);
            ensure!((1..=64).contains(&binding.bytes.len()), "a binding is 1 to 64 bytes, not {}", binding.bytes.len());
            let inside = binding.kind == BindingKind::InProcess;
            ensure!(
                inside == (pair.caps.security == Security::InProcess),
                "a binding of kind {:?} does not fit {:?}",
                binding.kind,
                pair.caps.security
            );
            pair.exchange(&*near, &*far).await?;
            ensure!(near.binding() == binding, "the binding has changed while the connection was open");
            ensure!(!seen.contains(&binding), "two connections have the binding {:?}", binding.bytes);
            seen.push(binding);
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}

/// If a transport says who is at the far end it is right; and it does not connect to another device
/// than the one that was asked for.
pub async fn the_peer_is_right_if_known(fixture: &TransportFixture) -> Verdict {
    let mut known = false;
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        for (connection, right) in [(&near, pair.far.peer), (&far, pair.near.peer)] {
            let peer = connection.peer();
            known |= peer.is_some();
            ensure!(peer.is_none_or(|peer| peer == right), "{right} is at the far end, but peer() says {peer:?}");
        }
        let stranger = fixture.new_peer();
        let dial = pair.near.endpoint.dial(stranger, &pair.far.address);
        if let Ok(connection) = within(pair.limits.patience, "the end of a dial to another device", dial).await? {
            let peer = connection.peer();
            ensure!(peer.is_none(), "{stranger} was dialled at another's address, and peer() says {peer:?}");
        }
        pair.close().await?;
    }
    let skipped = || Outcome::Skipped("the transport does not say who is at the far end".to_owned());
    Ok(if known { Outcome::Kept } else { skipped() })
}

/// The path names both ends, and runs inside the process exactly if the transport does.
pub async fn the_path_is_plausible(fixture: &TransportFixture) -> Verdict {
    for pair in fixture.pairs().await? {
        let (near, far) = pair.connect().await?;
        for path in [near.path(), far.path()] {
            ensure!(!path.local.is_empty() && !path.remote.is_empty(), "an end has no name: {path:?}");
            let inside = path.kind == PathKind::InProcess;
            if inside != (pair.caps.security == Security::InProcess) {
                return Err(Broken::new(format!("{path:?} does not fit {:?}", pair.caps.security)));
            }
        }
        pair.close().await?;
    }
    Ok(Outcome::Kept)
}
