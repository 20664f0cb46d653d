//! libp2p transport of Byway.
