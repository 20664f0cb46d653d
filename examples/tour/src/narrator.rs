//! What a person reads.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use crate::report::Outcome;

/// The column at which narration is broken.
const WIDTH: usize = 96;
/// The most of a quoted line that is shown.
const QUOTED: usize = 150;
/// What stands before narration.
const MARGIN: &str = "     ";

/// Writes to stdout, or, silenced, nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Narrator {
    silent: bool,
    styled: bool,
    since: Instant,
}

impl Narrator {
    /// For people; silent if somebody wants JSON instead.
    pub fn new(silent: bool) -> Self {
        Self { silent, styled: stdout().is_terminal(), since: Instant::now() }
    }

    /// The beginning of everything.
    pub fn opening(&self, scenarios: usize) {
        self.line(&self.bold("Byway, the tour"));
        self.line(&format!(
            "{scenarios} scenarios. Every member, the registry and the bot is a process of its own, with its own\n\
             SQLite file; they speak WebRTC over this machine's loopback. Nothing leaves this machine."
        ));
    }

    /// The beginning of a scenario: its number, name, and why it matters.
    pub fn scene(&mut self, number: usize, title: &str, name: &str, why: &str) {
        self.since = Instant::now();
        self.line("");
        self.line(&format!("{number:>3}. {}  {}", self.bold(title), self.dim(name)));
        self.say(why);
    }

    /// Explains.
    pub fn say(&self, text: &str) {
        for line in wrapped(text, WIDTH - MARGIN.len()) {
            self.line(&format!("{MARGIN}{}", self.dim(&line)));
        }
    }

    /// Something has happened just now.
    pub fn fact(&self, text: impl Display) {
        let at = self.since.elapsed().as_millis();
        self.line(&format!("{MARGIN}{} {text}", self.dim(&format!("{at:>6} ms"))));
    }

    /// Something that was written by Byway itself, several lines perhaps.
    pub fn quote(&self, text: impl Display) {
        for line in text.to_string().lines() {
            self.line(&format!("{MARGIN}          {} {}", self.dim("|"), short(line)));
        }
    }

    /// The end of a scenario.
    pub fn verdict(&self, outcome: &Outcome) {
        let text = match &outcome.result {
            Ok(finding) => format!("{} {}", self.colour("32", "✔"), finding.detail),
            Err(failure) => format!("{} {failure}", self.colour("31", "✘ FAILED:")),
        };
        for (n, line) in wrapped(&text, WIDTH - MARGIN.len()).iter().enumerate() {
            let margin = if n == 0 { "   " } else { MARGIN };
            self.line(&format!("{margin}{line}"));
        }
    }

    /// The end of everything.
    pub fn closing(&self, outcomes: &[Outcome], took: Duration) {
        let failed: Vec<_> = outcomes.iter().filter(|o| !o.passed()).map(|o| o.scenario).collect();
        self.line("");
        let passed = outcomes.len() - failed.len();
        self.line(&self.bold(&format!("{passed} of {} passed in {:.1} s.", outcomes.len(), took.as_secs_f64())));
        if !failed.is_empty() {
            self.line(&format!("Failed: {}", failed.join(", ")));
        }
    }

    fn line(&self, line: &str) {
        if !self.silent {
            // Whoever does not read any more misses nothing.
            let _ = writeln!(stdout(), "{line}");
        }
    }

    fn bold(&self, text: &str) -> String {
        self.colour("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.colour("2", text)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A duration in milliseconds, for people.
pub fn ms(duration: Duration) -> String {
    match duration.as_micros() {
        us @ 0..10_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        us => format!("{} ms", us / 1_000),
    }
}

/// The beginning of a line.
fn short(line: &str) -> String {
    let mut short: String = line.chars().take(QUOTED).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narration_is_broken_between_words() {
        assert_eq!(wrapped("one two  three\n four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("", 9), [""]);
        assert_eq!(wrapped("incomprehensible x", 5), ["incomprehensible", "x"]);
    }

    #[test]
    fn long_quotes_are_cut_between_characters() {
        assert_eq!(short("häuser"), "häuser");
        let long = short(&"ä".repeat(QUOTED + 1));
        assert!(long.ends_with("ä…") && long.chars().count() == QUOTED + 1);
    }

    #[test]
    fn durations_have_a_fitting_precision() {
        assert_eq!(ms(Duration::from_micros(1_234)), "1.2 ms");
        assert_eq!(ms(Duration::from_micros(43_900)), "43 ms");
    }
}
