//! Resident memory of this process.

use crate::Failure;

/// In KiB, as the kernel counts it (`proc(5)`, `VmRSS`).
pub(crate) fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("there is no VmRSS")?;
    Ok(number.trim().parse()?)
}
