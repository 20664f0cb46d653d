//! What the log store acknowledged survives kill -9, power cuts, failing and full disks.

use std::path::PathBuf;
use std::sync::Arc;

use byway_api::RouteStore;
use byway_custom_store::{LogConfig, LogStore};

byway_testkit::store_durability_conformance!(log, |path: PathBuf| async move {
    let mut config = LogConfig::default();
    // So that the short runs of the suite compact the log as well.
    config.compact_from = 16 * 1024;
    Ok(Arc::new(LogStore::open(path, config)?) as Arc<dyn RouteStore>)
});
