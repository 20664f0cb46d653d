//! One plugin for each trait of Byway, from outside: this crate depends on `byway-api` and knows no more of
//! Byway than its documentation says. Each is one or two files to copy from.
//!
//! | module | trait | what it is for |
//! |---|---|---|
//! | [`datagrams`] | `Signaling` | signals between the processes of one machine |
//! | [`issued`] | `Membership` | credentials that one key of the group's owner has signed |
//! | [`sheet`] | `KeyStore` | keys as a text that can be printed and typed in again |
//! | [`volunteer`] | `Relay` | forwards and keeps mail for friends, so many bytes a day |
//! | [`hosts`] | `DiscoveryStep` | members by a text file that somebody edits |
//! | [`unix`] | `Transport` | connections between the processes of one machine |
//! | [`shelf`] | `RouteStore` | everything in memory and in one file |

mod codec;
pub mod datagrams;
pub mod hosts;
pub mod issued;
mod mailboxes;
mod noise;
pub mod sheet;
pub mod shelf;
mod tables;
pub mod unix;
pub mod volunteer;
