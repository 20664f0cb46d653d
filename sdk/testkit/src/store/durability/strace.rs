//! The system calls of a real process, as `strace` writes them down.

use std::collections::BTreeMap;
use std::process::Command;

use super::Subject;
use super::child::{Process, Task};
use super::place::{Place, broken};
use crate::promise::{Broken, ensure};

/// The longest piece of data that is written down whole.
const LONGEST: usize = 1 << 22;

/// Why no process can be watched here, if so.
pub(super) fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("system calls are recorded on Linux only".to_owned());
    }
    match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Ok(done) if done.status.success() => None,
        Ok(done) => Some(format!("strace: {}", String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// Runs a task to its end under strace with more options; answers what strace wrote, and what the
/// process said.
pub(super) fn run(
    subject: &Subject,
    place: &Place,
    task: Task,
    options: &[String],
) -> Result<(String, Vec<String>), Broken> {
    let trace = place.beside("trace");
    let mut command: Vec<String> =
        ["strace", "-f", "--seccomp-bpf", "-xx", "-s", &LONGEST.to_string(), "-o"].map(str::to_owned).into();
    command.push(trace.to_string_lossy().into_owned());
    command.extend_from_slice(options);
    let process = Process::start(subject, place, task, &command)?;
    let mut lines = Vec::new();
    while let Some(line) = process.line()? {
        lines.push(line);
    }
    let ended = process.end()?;
    ensure!(ended.success(), "the process failed: {}\n{}", lines.join("\n"), place.said());
    let trace = std::fs::read_to_string(trace).map_err(|e| broken("strace wrote nothing", e))?;
    Ok((trace, lines))
}

/// One call, or its first half.
#[derive(Clone, Debug)]
pub(super) struct Call<'t> {
    pub(super) thread: &'t str,
    pub(super) name: &'t str,
    pub(super) arguments: Vec<&'t str>,
}

/// What strace shows, in order. A call that nothing interrupts begins and returns.
#[derive(Debug)]
pub(super) enum Moment<'t> {
    Begins(Call<'t>),
    /// It returned without an error.
    Returns(Call<'t>, u64),
}

/// Reads the lines that `strace -f -xx -o` wrote.
pub(super) fn moments(trace: &str) -> Vec<Moment<'_>> {
    let mut moments = Vec::new();
    let mut begun: BTreeMap<&str, Call<'_>> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(rest) = text.strip_prefix("<... ") {
            let Some(mut call) = begun.remove(thread) else { continue };
            let rest = rest.split_once(" resumed>").map_or("", |(_, rest)| rest);
            // Arguments that the kernel fills stand in the second half.
            call.arguments.extend(arguments(rest.rsplit_once(") ").map_or("", |(more, _)| more)));
            moments.extend(result(text).map(|result| Moment::Returns(call, result)));
            continue;
        }
        let Some((name, rest)) = text.split_once('(') else { continue };
        let begins = rest.strip_suffix(" <unfinished ...>");
        let inner = begins.or_else(|| rest.rsplit_once(") ").map(|(inner, _)| inner)).unwrap_or(rest);
        let call = Call { thread, name, arguments: arguments(inner) };
        moments.push(Moment::Begins(call.clone()));
        if begins.is_some() {
            begun.insert(thread, call);
        } else {
            moments.extend(result(text).map(|result| Moment::Returns(call, result)));
        }
    }
    moments
}

fn result(text: &str) -> Option<u64> {
    let (_, result) = text.rsplit_once(" = ")?;
    let result = result.split(' ').next()?;
    match result.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => result.parse().ok(),
    }
}

/// Splits at the commas that stand in no bracket. Strings are all `\x..`, so they have none.
fn arguments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        found.push(text[start..].trim());
    }
    found
}

/// The bytes of every string in an argument, one after the other; `None` if one was cut off.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let mut bytes = Vec::with_capacity(text.len() / 4);
    for (n, part) in text.split('"').enumerate() {
        if n % 2 == 0 {
            if n > 0 && part.starts_with("...") {
                return None;
            }
            continue;
        }
        for byte in part.as_bytes().chunks(4) {
            let &[b'\\', b'x', high, low] = byte else { return None };
            bytes.push(digit(high)? << 4 | digit(low)?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_also_when_others_come_between() {
        let trace = r#"7 openat(AT_FDCWD, "\x2f\x61", O_RDWR|O_CREAT, 0644) = 3
7 pwritev(3, [{iov_base="\x61\x62", iov_len=2}, {iov_base="\x63", iov_len=1}], 2, 5 <unfinished ...>
8  fsync(4) = -1 EIO (Input/output error) (INJECTED)
7 <... pwritev resumed>) = 3
7 +++ exited with 0 +++"#;
        let seen: Vec<_> = moments(trace)
            .iter()
            .map(|moment| match moment {
                Moment::Begins(call) => (call.thread, call.name, call.arguments.len(), None),
                Moment::Returns(call, result) => (call.thread, call.name, call.arguments.len(), Some(*result)),
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("7", "openat", 4, None),
                ("7", "openat", 4, Some(3)),
                ("7", "pwritev", 4, None),
                ("8", "fsync", 1, None),
                ("7", "pwritev", 4, Some(3)),
            ]
        );
        assert_eq!(bytes(r#"[{iov_base="\x61\x62", iov_len=2}, {iov_base="\x63", iov_len=1}]"#).unwrap(), b"abc");
        assert_eq!(bytes(r#""\x61"..."#), None, "cut off");
    }
}
