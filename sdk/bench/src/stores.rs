//! The durable stores, each against itself with one commit per call, on the disk of the working directory.

use std::path::Path;
use std::sync::Arc;

use byway_api::{RouteStore, StoreError};
use byway_store_redb::RedbStore;
use byway_store_sqlite::SqliteStore;
use byway_testkit::store::measure::{CONTENT, Effort, Figure, Open, figures, flush_of_disk};

use crate::Failure;
use crate::table::Row;

/// Figures without a target that say what those with one are made of.
const BESIDES: &str = ", 64 callers";

pub(crate) async fn measure() -> Result<Vec<Row>, Failure> {
    let directory = tempfile::TempDir::new_in(".")?;
    let sqlite = directory.path().join("sqlite");
    let open = |name: &str| Ok::<_, StoreError>(Arc::new(SqliteStore::open(sqlite.join(name))?) as Arc<dyn RouteStore>);
    let mut rows = of("SQLite (FULL)", &sqlite, &open).await?;
    let redb = directory.path().join("redb");
    let open = |name: &str| Ok::<_, StoreError>(Arc::new(RedbStore::open(redb.join(name))?) as Arc<dyn RouteStore>);
    rows.extend(of("redb", &redb, &open).await?);
    directory.close()?;
    Ok(rows)
}

async fn of(store: &str, directory: &Path, open: Open<'_>) -> Result<Vec<Row>, Failure> {
    std::fs::create_dir(directory)?;
    let here = directory.to_owned();
    let flush = tokio::task::spawn_blocking(move || flush_of_disk(&here)).await??;
    let effort = Effort::default();
    let how = format!(
        "rows of {CONTENT} B, {:.0} s for each way to write; one flush of this disk takes {:.2} ms (median of 200)",
        effort.span.as_secs_f64(),
        flush.as_secs_f64() * 1e3,
    );
    let mut figures = figures(open, effort).await?;
    figures.retain(|figure| figure.target.is_some() || figure.name.ends_with(BESIDES));
    Ok(figures.into_iter().map(|figure| row(store, figure, &how)).collect())
}

fn row(store: &str, figure: Figure, how: &str) -> Row {
    let digits = if figure.value >= 1000.0 { 0 } else { 1 };
    Row {
        figure: format!("{store}: {}", figure.name),
        target: figure.target.unwrap_or_default().to_owned(),
        value: format!("{:.digits$} {}", figure.value, figure.unit),
        met: figure.met,
        how: how.to_owned(),
    }
}
