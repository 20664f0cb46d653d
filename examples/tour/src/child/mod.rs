//! Processes, and the JSON lines between them and the tour.

pub mod person;
pub mod process;
pub mod protocol;

use std::io::{BufRead, stdin};
use std::process::exit;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

pub use person::Person;
pub use process::Process;

/// The longest wait for anything that a child is asked for or should show. Far beyond what a healthy
/// node needs on a busy machine in a debug build; a scenario that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a child may take to end after its stdin was closed. Then it ends, whatever it is doing.
const GRACE: Duration = Duration::from_secs(10);
/// Lines from stdin that wait.
const LINES: usize = 256;

/// Inside a child: the lines of stdin. When it is closed the channel ends, and the process does too, at
/// the latest after a grace period.
pub fn stdin_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES);
    // A thread of its own: a read of stdin cannot be cancelled, and must not hold up the exit.
    let reader = thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        drop(sender);
        thread::sleep(GRACE);
        eprintln!("did not end in time");
        exit(1);
    });
    if reader.is_err() {
        // Without the thread nobody could stop this process: the channel is closed, so it stops itself.
        eprintln!("cannot read stdin");
    }
    receiver
}

/// Inside a child: returns when stdin is closed.
pub async fn until_stdin_closes() {
    let mut lines = stdin_lines();
    while lines.recv().await.is_some() {}
}
