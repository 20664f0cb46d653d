use std::sync::Arc;

use byway_api::DiscoveryStep;

use crate::{Cache, Coordinators, Existing, Neighbours, StoreAndForward};

/// The steps in their standard order, with their default settings.
///
/// `existing`, `neighbours`, `cache`, `coordinators`, then `registry` if there is one (a
/// `RegistryStep`, or a step of your own for another directory), then `store-and-forward`.
pub fn standard_steps(registry: Option<Arc<dyn DiscoveryStep>>) -> Vec<Arc<dyn DiscoveryStep>> {
    let mut steps: Vec<Arc<dyn DiscoveryStep>> = vec![
        Arc::new(Existing),
        Arc::new(Neighbours::default()),
        Arc::new(Cache::default()),
        Arc::new(Coordinators::default()),
    ];
    steps.extend(registry);
    steps.push(Arc::new(StoreAndForward));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_ladders() {
        let names = |steps: Vec<Arc<dyn DiscoveryStep>>| steps.iter().map(|s| s.name()).collect::<Vec<_>>();
        assert_eq!(
            names(standard_steps(None)),
            ["existing", "neighbours", "cache", "coordinators", "store-and-forward"]
        );
        // any step can stand where the registry stands
        assert_eq!(
            names(standard_steps(Some(Arc::new(Cache::default())))),
            ["existing", "neighbours", "cache", "coordinators", "cache", "store-and-forward"]
        );
    }
}
