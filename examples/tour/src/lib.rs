//! Byway's main job in one command: a registry, members and a bot as separate processes, over real
//! WebRTC and SQLite, on this machine only, and a person told what happens.
//!
//! ```text
//! cargo run --release -p byway-tour               everything, narrated
//! cargo run --release -p byway-tour -- --list     what there is
//! cargo run --release -p byway-tour -- --only cold-restart --json
//! ```
//!
//! The tour starts *itself* again for every process: [`server`] calls what the registry's binary and
//! the echo bot's binary call, [`member`] is an app that obeys JSON lines. Children end when their
//! stdin is closed, so nothing is left behind, however the tour ends. Only public interfaces are used:
//! what makes the tour's members different from yours is in [`member`], and is a transport wrapper that
//! can keep a pair of devices apart.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | options, the run, Ctrl-C |
//! | [`narrator`] | what a person reads |
//! | [`report`] | what a program reads, and failures |
//! | [`child`] | processes, and the JSON lines between them and the tour |
//! | [`member`], [`server`], [`janitor`] | what runs inside the processes |
//! | [`proxy`] | stands before the registry and counts its calls |
//! | [`stage`] | the world of one scenario |
//! | [`scenario`] | the scenarios, in their order |

pub mod child;
pub mod cli;
pub mod janitor;
pub mod member;
pub mod narrator;
pub mod plugins;
pub mod proxy;
pub mod report;
pub mod scenario;
pub mod server;
pub mod stage;
