//! A process that outlives the tour by a moment and removes what it left: so nothing stays on the disk,
//! even if the tour is killed with a signal that nobody can handle.

use std::fs;
use std::io::{self, ErrorKind, Read, stdin};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Attempts: the children are still closing their files when the tour has just ended.
const ATTEMPTS: usize = 150;

/// Starts the janitor. It begins when its stdin is closed: when this is dropped, or this process ends.
///
/// # Errors
/// If the system does not start it.
pub fn start(directory: &Path) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("janitor").arg(directory).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

/// Waits until stdin is closed, then removes `directory`.
pub fn run(directory: &Path) -> ExitCode {
    let mut rest = [0; 64];
    while stdin().read(&mut rest).is_ok_and(|n| n > 0) {}
    for _ in 0..ATTEMPTS {
        // A child that is still closing can write a file between two removals: only a directory that is
        // gone is done.
        let _ = fs::remove_dir_all(directory);
        thread::sleep(PAUSE);
        if matches!(fs::metadata(directory), Err(error) if error.kind() == ErrorKind::NotFound) {
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::FAILURE
}
