//! What durability costs, and what group commit saves, on the disk of the working directory.
//!
//! `cargo run --release -p byway-store-sqlite --example store-bench [directory]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use byway_api::{RouteStore, StoreError};
use byway_store_sqlite::{SqliteConfig, SqliteStore};
use byway_testkit::store::measure::{Effort, Figure, figures, flush_of_disk};

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = tempfile::TempDir::new_in(directory)?;
    let flush = flush_of_disk(directory.path())?;
    println!("SQLite; one flush of this disk takes {:.2} ms (median)\n", flush.as_secs_f64() * 1e3);
    let open = |name: &str| -> Result<Arc<dyn RouteStore>, StoreError> {
        Ok(Arc::new(SqliteStore::open(directory.path().join(name))?))
    };
    println!("{}", Figure::HEAD);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    for figure in runtime.block_on(figures(&open, Effort::default()))? {
        println!("{figure}");
    }
    let file = directory.path().join("routes");
    for (name, verify) in [("open and close", false), ("open, verify and close", true)] {
        let mut config = SqliteConfig::default();
        config.verify = verify;
        let begin = Instant::now();
        runtime.block_on(SqliteStore::open_with(&file, config)?.close())?;
        println!("| {name} |  | {:.1} ms |  |", begin.elapsed().as_secs_f64() * 1e3);
    }
    println!("| size of the file |  | {:.1} MiB |  |", std::fs::metadata(&file)?.len() as f64 / 1048576.0);
    Ok(())
}
