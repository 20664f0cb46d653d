//! What the kernel says about this process, and processes for what needs one of its own.

use std::process::Command;
use std::time::Duration;

use crate::Failure;

/// The argument before the name of a child.
pub(crate) const CHILD: &str = "--child";

/// Clock ticks in a second, as `/proc` counts them: 100 on every Linux there is (`proc(5)`).
const TICKS: f64 = 100.0;

/// Processor time of all threads so far, in steps of 10 ms.
pub(crate) fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may contain anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit(')').next().ok_or("no /proc/self/stat")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64, Failure> { Ok(times.next().ok_or("a short /proc/self/stat")?.parse()?) };
    Ok(Duration::from_secs_f64((ticks()? + ticks()?) / TICKS))
}

/// Resident memory in KiB (`proc(5)`, `VmRSS`).
pub(crate) fn resident() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("there is no VmRSS")?;
    Ok(number.trim().parse()?)
}

/// The number that a child measures in a process of its own.
pub(crate) async fn child(name: &'static str) -> Result<f64, Failure> {
    let run = move || Command::new(std::env::current_exe()?).args([CHILD, name]).output();
    let output = tokio::task::spawn_blocking(run).await??;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
