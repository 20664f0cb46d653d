//! What became of a scenario: for programs, and why it failed.

use std::fmt;
use std::time::Duration;

use serde_json::json;

/// Why a scenario failed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

/// A result of the tour.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// With a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Fails the scenario, with a reason, unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err($crate::report::Failure::new(format!($($reason)+)));
        }
    };
}

/// What a scenario that went well has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Calls that the registry answered in the stretch that the scenario is about; its narration and
    /// `detail` say which stretch that is. Calls to a registry that was killed are not answered; they
    /// are told of in `detail`.
    pub registry_calls: u64,
    /// One line: the numbers.
    pub detail: String,
}

impl Finding {
    /// With the calls and the numbers.
    pub fn new(registry_calls: u64, detail: impl Into<String>) -> Self {
        Self { registry_calls, detail: detail.into() }
    }
}

/// One scenario's line.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub scenario: &'static str,
    /// How long it took, setting up and cleaning up included.
    pub took: Duration,
    /// What came of it.
    pub result: Result<Finding>,
}

impl Outcome {
    /// Whether all was as it should be.
    pub const fn passed(&self) -> bool {
        self.result.is_ok()
    }

    /// The JSON line.
    pub fn to_json(&self) -> String {
        let (calls, detail) = match &self.result {
            Ok(finding) => (Some(finding.registry_calls), finding.detail.clone()),
            Err(failure) => (None, failure.to_string()),
        };
        // Written out, so that the fields keep their order.
        format!(
            r#"{{"scenario":{},"passed":{},"ms":{},"registry_calls":{},"detail":{}}}"#,
            json!(self.scenario),
            self.passed(),
            self.took.as_millis(),
            json!(calls),
            json!(detail),
        )
    }
}

/// The last JSON line.
pub fn summary(outcomes: &[Outcome]) -> String {
    let passed = outcomes.iter().filter(|outcome| outcome.passed()).count();
    format!(r#"{{"summary":true,"passed":{passed},"failed":{}}}"#, outcomes.len() - passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_scenario_tells_why_and_is_counted() {
        let ms = Duration::from_millis;
        let good = Outcome { scenario: "a", took: ms(12), result: Ok(Finding::new(1, "b \"c\"")) };
        let bad = Outcome { scenario: "c", took: ms(3), result: Err(Failure::new("nobody came")) };
        assert_eq!(good.to_json(), r#"{"scenario":"a","passed":true,"ms":12,"registry_calls":1,"detail":"b \"c\""}"#);
        assert_eq!(
            bad.to_json(),
            r#"{"scenario":"c","passed":false,"ms":3,"registry_calls":null,"detail":"nobody came"}"#
        );
        assert_eq!(summary(&[good, bad]), r#"{"summary":true,"passed":1,"failed":1}"#);
    }
}
