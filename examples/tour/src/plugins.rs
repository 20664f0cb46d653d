//! Which transports and which store a member runs on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use byway::{Builder, Libp2p, MemoryStore, RedbStore, SqliteStore, WebRtc};
use byway_testkit::faults::{Refusals, Refusing};
use clap::ValueEnum;

/// A transport, on the loopback only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// WebRTC; needs somebody who carries its signals
    Webrtc,
    /// libp2p: TCP, Noise, Yamux
    Libp2p,
}

impl Way {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webrtc => "webrtc",
            Self::Libp2p => "libp2p",
        }
    }

    /// Adds it to a node. It keeps the pairs in `refusals` apart.
    pub fn add(self, builder: Builder, refusals: &Refusals) -> Builder {
        match self {
            Self::Webrtc => {
                let loopback = WebRtc::default().bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).loopback(true);
                builder.transport(Refusing::new(Arc::new(loopback), refusals))
            }
            Self::Libp2p => {
                let loopback = Libp2p::default().listen("/ip4/127.0.0.1/tcp/0");
                builder.transport(Refusing::new(Arc::new(loopback), refusals))
            }
        }
    }
}

/// A store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// SQLite, in the profile
    Sqlite,
    /// redb, in the profile
    Redb,
    /// Nothing outlives the process
    Memory,
}

impl Keep {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Redb => "redb",
            Self::Memory => "memory",
        }
    }

    /// Gives it to a node.
    ///
    /// # Errors
    /// If its file cannot be opened.
    pub fn add(self, builder: Builder, profile: &Path) -> Result<Builder, byway::StoreError> {
        let _ = std::fs::create_dir_all(profile);
        Ok(match self {
            Self::Sqlite => builder.store(SqliteStore::open(profile.join("tour.db"))?),
            Self::Redb => builder.store(RedbStore::open(profile.join("tour.redb"))?),
            Self::Memory => builder.store(MemoryStore::new()),
        })
    }
}
