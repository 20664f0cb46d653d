//! Ready-made configurations, named for the servers they use.
//!
//! | preset | servers | transport | keeps its data in |
//! |---|---|---|---|
//! | `Standard::registry(url)` | one registry | WebRTC | the profile |
//! | `Lan` | none: members find each other by mDNS (feature `mdns`) or invites, and signal over listeners | WebRTC, libp2p (feature `libp2p`) | the profile |
//! | `InMemory` | none, no network either: everything in one process | memory | memory |
//! | `Bare` | none | none: you say everything | nowhere |
//!
//! A preset only makes calls on the [`Builder`] that you could make yourself; whatever it sets can be
//! changed afterwards. Write your own by implementing [`Preset`].

mod bare;
#[cfg(feature = "memory")]
mod directory;
#[cfg(feature = "memory")]
mod in_memory;
#[cfg(all(feature = "webrtc", feature = "listener"))]
mod lan;
#[cfg(all(feature = "webrtc", feature = "registry"))]
mod standard;

use crate::builder::Builder;

pub use bare::Bare;
#[cfg(feature = "memory")]
pub use in_memory::InMemory;
#[cfg(all(feature = "webrtc", feature = "listener"))]
pub use lan::Lan;
#[cfg(all(feature = "webrtc", feature = "registry"))]
pub use standard::Standard;

/// A ready-made configuration.
pub trait Preset {
    /// Makes its calls on an empty builder.
    fn configure(self, builder: Builder) -> Builder;
}
