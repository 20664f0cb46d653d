//! The ordered set of discovery steps, as the app arranges it.

use std::sync::Arc;

use byway_api::DiscoveryStep;

use crate::error::{Part, Problem};

/// The discovery steps in their order, to be changed inside
/// [`Builder::discovery`](crate::Builder::discovery). Steps are named by
/// [`DiscoveryStep::name`]; the standard ones are `existing`, `neighbours`, `cache`, `coordinators`,
/// `registry` and `store-and-forward`
/// ([`discovery::standard_steps`](crate::discovery::standard_steps), which [`From`] takes).
///
/// A name that is not there, or twice there, is a problem that `spawn` reports with all the others.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    steps: Vec<Arc<dyn DiscoveryStep>>,
    problems: Vec<Problem>,
}

impl Ladder {
    /// No steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step at the end.
    #[must_use]
    pub fn last(mut self, step: impl DiscoveryStep) -> Self {
        self.steps.push(Arc::new(step));
        self
    }

    /// Adds a step at the beginning.
    #[must_use]
    pub fn first(mut self, step: impl DiscoveryStep) -> Self {
        self.steps.insert(0, Arc::new(step));
        self
    }

    /// Adds a step just before the one of this name.
    #[must_use]
    pub fn before(mut self, name: &str, step: impl DiscoveryStep) -> Self {
        if let Some(at) = self.position(name) {
            self.steps.insert(at, Arc::new(step));
        }
        self
    }

    /// Adds a step just after the one of this name.
    #[must_use]
    pub fn after(mut self, name: &str, step: impl DiscoveryStep) -> Self {
        if let Some(at) = self.position(name) {
            self.steps.insert(at + 1, Arc::new(step));
        }
        self
    }

    /// Takes a step out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Some(at) = self.position(name) {
            self.steps.remove(at);
        }
        self
    }

    /// The names of the steps, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().map(|step| step.name())
    }

    /// The steps, and what is wrong with them.
    pub(crate) fn finish(mut self) -> (Vec<Arc<dyn DiscoveryStep>>, Vec<Problem>) {
        let mut names: Vec<_> = self.names().collect();
        names.sort_unstable();
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            let text = format!("two discovery steps are named {:?}", pair[0]);
            self.problems.push(Problem::new(Part::Discovery, text, "rename one, or take one out with .without(..)"));
        }
        (self.steps, self.problems)
    }

    fn position(&mut self, name: &str) -> Option<usize> {
        let at = self.steps.iter().position(|step| step.name() == name);
        if at.is_none() {
            let names: Vec<_> = self.names().collect();
            let text = format!("no discovery step is named {name:?}");
            self.problems.push(Problem::new(Part::Discovery, text, format!("use one of {names:?}")));
        }
        at
    }
}

impl From<Vec<Arc<dyn DiscoveryStep>>> for Ladder {
    fn from(steps: Vec<Arc<dyn DiscoveryStep>>) -> Self {
        Self { steps, problems: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway_api::{Lookup, StepError, async_trait};

    #[derive(Debug)]
    struct Named(&'static str);

    #[async_trait]
    impl DiscoveryStep for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        async fn find(&self, _: &dyn Lookup) -> Result<(), StepError> {
            Ok(())
        }
    }

    #[test]
    fn steps_go_anywhere_by_name() {
        let ladder = Ladder::new()
            .last(Named("b"))
            .first(Named("a"))
            .before("b", Named("x"))
            .after("b", Named("y"))
            .without("a");
        assert_eq!(ladder.names().collect::<Vec<_>>(), ["x", "b", "y"]);
        assert_eq!(ladder.finish().1, []);
    }

    #[test]
    fn names_that_are_not_there_or_twice_there_are_problems() {
        let ladder = Ladder::new().last(Named("a")).last(Named("a")).before("c", Named("x")).without("d");
        let (steps, problems) = ladder.finish();
        assert_eq!(steps.len(), 2);
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[0].contains("\"c\"") && texts[0].contains("[\"a\", \"a\"]"), "{texts:?}");
    }
}
