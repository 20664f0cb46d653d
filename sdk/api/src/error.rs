//! One error struct per trait: kind, plugin, source, and advice whether to retry.

use std::error::Error;
use std::fmt;

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// The same call may succeed later.
    Later,
    /// *Our own* network is down. It says nothing about the peer: no score is lowered and no
    /// member is shown as offline because of it.
    LocalFault,
}

type Source = Box<dyn Error + Send + Sync>;

macro_rules! plugin_error {
    ($(#[$doc:meta])* $name:ident, $(#[$kdoc:meta])* $kind:ident { $($(#[$vdoc:meta])* $variant:ident => $retry:ident, $text:literal;)+ }) => {
        $(#[$kdoc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $kind { $($(#[$vdoc])* $variant,)+ }

        impl $kind {
            fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)+ }
            }
            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            kind: $kind,
            plugin: &'static str,
            detail: String,
            source: Option<Source>,
        }

        impl $name {
            /// An error of `plugin`. `detail` says what was attempted and what a person can do.
            pub fn new(kind: $kind, plugin: &'static str, detail: impl Into<String>) -> Self {
                Self { kind, plugin, detail: detail.into(), source: None }
            }

            /// Adds the error that caused this one.
            #[must_use]
            pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
                self.source = Some(source.into());
                self
            }

            /// What went wrong.
            pub fn kind(&self) -> $kind {
                self.kind
            }

            /// The plugin that reports it.
            pub fn plugin(&self) -> &'static str {
                self.plugin
            }

            /// What was attempted and what a person can do.
            pub fn detail(&self) -> &str {
                &self.detail
            }

            /// Whether a retry makes sense.
            pub fn retry(&self) -> Retry {
                self.kind.retry()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {}", self.plugin, self.kind.text())?;
                if !self.detail.is_empty() {
                    write!(f, ": {}", self.detail)?;
                }
                if let Some(source) = &self.source {
                    write!(f, " ({source})")?;
                }
                Ok(())
            }
        }

        impl Error for $name {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.source.as_ref().map(|s| &**s as &(dyn Error + 'static))
            }
        }
    };
}

plugin_error!(
    /// What a [`Transport`](crate::Transport), its endpoint or a connection reports.
    TransportError,
    /// Kinds of [`TransportError`].
    TransportErrorKind {
        /// The address is not of a form this transport understands.
        BadAddress => Never, "this address cannot be dialled";
        /// Nothing answered in time.
        Timeout => Later, "no answer in time";
        /// The far side answered with a refusal.
        Refused => Later, "the peer refused the connection";
        /// The handshake failed: wrong key, wrong fingerprint, malformed answer.
        Handshake => Later, "the handshake failed";
        /// The other side's attempt won; the connection arrives through `Endpoint::next`.
        Superseded => Later, "the peer's own attempt won";
        /// The connection is closed.
        Closed => Later, "the connection is closed";
        /// The frame is larger than `TransportCaps::max_frame`.
        TooLarge => Never, "the frame is too large";
        /// A bound of the transport is reached: pending offers, half-open connections, queue.
        Busy => Later, "the transport is busy";
        /// Our own network does not work: no route, no interface, socket error.
        LocalFault => LocalFault, "our own network is down";
        /// No signal reached the peer.
        Signaling => Later, "no signal reached the peer";
        /// The configuration does not work: port in use, bad server URL.
        Config => Never, "the configuration does not work";
        /// Anything else.
        Other => Later, "transport error";
    }
);

plugin_error!(
    /// What a [`SignalPort`](crate::SignalPort) or a [`Signaling`](crate::Signaling) carrier reports.
    SignalError,
    /// Kinds of [`SignalError`].
    SignalErrorKind {
        /// This carrier does not serve the address.
        BadAddress => Never, "this address is not served";
        /// The peer is not attached there.
        NoSuchPeer => Later, "the peer is not reachable there";
        /// A queue on the way is full.
        Busy => Later, "the way is busy";
        /// The socket or neighbour cannot be reached.
        Unreachable => Later, "cannot be reached";
        /// Refused by the other end: wrong key, bad proof.
        Refused => Never, "refused";
        /// The peer's sealing key is not known; a record of it is needed first.
        NoRecord => Later, "no record of the peer is known";
        /// No call may be spent on this now.
        NoBudget => Later, "the call budget is used up";
        /// Closed.
        Closed => Never, "closed";
        /// Our own network does not work.
        LocalFault => LocalFault, "our own network is down";
    }
);

plugin_error!(
    /// What a [`DiscoveryStep`](crate::DiscoveryStep) reports.
    StepError,
    /// Kinds of [`StepError`].
    StepErrorKind {
        /// The source cannot be reached.
        Unreachable => Later, "cannot be reached";
        /// The source is known to be down; nothing was tried.
        KnownDown => Later, "known to be down";
        /// No call may be spent on this now; nothing was tried.
        NoBudget => Later, "the call budget is used up";
        /// The source answered something that cannot be used.
        BadAnswer => Later, "unusable answer";
        /// The source refused: a 4xx, a wrong key.
        Refused => Never, "refused";
        /// Nothing came in time.
        Timeout => Later, "no answer in time";
        /// Our own network does not work.
        LocalFault => LocalFault, "our own network is down";
        /// Anything else.
        Other => Later, "step failed";
    }
);

plugin_error!(
    /// What a [`RouteStore`](crate::RouteStore) reports.
    StoreError,
    /// Kinds of [`StoreError`].
    StoreErrorKind {
        /// Another process has the store open.
        Busy => Later, "in use by another process";
        /// The disk is full; nothing of the batch was written.
        DiskFull => Later, "the disk is full";
        /// The store cannot be written.
        ReadOnly => Never, "read-only";
        /// The file is damaged; it was left as it is.
        Corrupt => Never, "the file is damaged";
        /// The file was written by a newer version; it was left as it is.
        NewerSchema => Never, "written by a newer version";
        /// Reading or writing failed. What was acknowledged is safe; open the store again.
        Io => Later, "input/output error";
        /// The store is closed.
        Closed => Never, "closed";
        /// A batch or a page is larger than the store takes.
        TooLarge => Never, "too large";
    }
);

plugin_error!(
    /// What a [`Relay`](crate::Relay) or the [`Carrier`](crate::Carrier) it is lent reports.
    RelayError,
    /// Kinds of [`RelayError`].
    RelayErrorKind {
        /// The hop is not a neighbour of ours.
        NotNeighbour => Later, "the hop is not connected to us";
        /// The hop has no connection to the recipient.
        NotConnected => Later, "the hop is not connected to the recipient";
        /// A quota of the sender is used up at the hop, or a box is full.
        Quota => Later, "a quota is used up";
        /// Longer than an envelope may be, or than the hop takes.
        TooLarge => Never, "too large";
        /// The envelope's life is over.
        Expired => Never, "expired";
        /// The policy does not admit it.
        Refused => Never, "refused";
        /// No room on the way to the hop now.
        Busy => Later, "the way is busy";
        /// The hop did not answer in time; it may have forwarded all the same.
        Timeout => Later, "no answer in time";
        /// This relay keeps no mail.
        NotHolding => Never, "holds no mail";
        /// What holds the mail failed.
        Store => Later, "the store failed";
        /// The node is closing.
        Closed => Never, "closed";
        /// Our own network does not work.
        LocalFault => LocalFault, "our own network is down";
        /// Anything else.
        Other => Later, "relaying failed";
    }
);

plugin_error!(
    /// What a [`Membership`](crate::Membership) reports about a credential.
    MembershipError,
    /// Kinds of [`MembershipError`].
    MembershipErrorKind {
        /// Not a credential at all.
        Malformed => Never, "not a credential";
        /// For another network.
        WrongNetwork => Never, "for another network";
        /// For another device key.
        WrongKey => Never, "for another device";
        /// The signature is not valid.
        BadSignature => Never, "the signature is not valid";
        /// Not valid any more.
        Expired => Never, "expired";
        /// Not valid yet: check the clocks.
        NotYetValid => Later, "not valid yet";
        /// Taken back by the issuer.
        Revoked => Never, "revoked";
    }
);

plugin_error!(
    /// What a [`KeyStore`](crate::KeyStore) reports.
    KeyError,
    /// Kinds of [`KeyError`].
    KeyErrorKind {
        /// The keys are there but cannot be read.
        Corrupt => Never, "the key file is damaged";
        /// Others may read the file.
        Permissions => Never, "the key file is readable by others";
        /// Reading or writing failed.
        Io => Later, "input/output error";
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_plugin_kind_detail_and_source() {
        let e = StoreError::new(StoreErrorKind::DiskFull, "sqlite", "free some space at /var")
            .with_source(std::io::Error::other("ENOSPC"));
        assert_eq!(e.to_string(), "sqlite: the disk is full: free some space at /var (ENOSPC)");
        assert_eq!(e.retry(), Retry::Later);
        assert!(e.source().is_some());
    }

    #[test]
    fn a_local_fault_is_nobody_elses() {
        let e = TransportError::new(TransportErrorKind::LocalFault, "webrtc", "");
        assert_eq!(e.retry(), Retry::LocalFault);
    }
}
