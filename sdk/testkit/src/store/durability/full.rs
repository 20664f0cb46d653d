//! A promise about a disk without room.

use std::fs;
use std::process::Command;

use byway_api::StoreErrorKind;

use super::Subject;
use super::child::fill;
use super::place::{Place, broken};
use super::script::{check, works_on};
use crate::promise::{Broken, Outcome, Verdict, ensure};

/// The size of the disk, and what is kept free for later. In bytes.
const DISK: usize = 8 << 20;
const BALLAST: usize = 2 << 20;

/// A file system of its own, unmounted when dropped.
struct Mounted<'p>(&'p Place);

impl<'p> Mounted<'p> {
    fn tmpfs(place: &'p Place) -> Result<Self, String> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "byway-test"])
            .arg(place.root())
            .output();
        match mount {
            Ok(done) if done.status.success() => Ok(Self(place)),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmount = |more: &[&str]| Command::new("umount").args(more).arg(self.0.root()).output();
        if !unmount(&[]).is_ok_and(|done| done.status.success()) {
            // A process that another test is just starting may have a copy of an open file.
            let _ = unmount(&["--lazy"]);
        }
    }
}

/// On a full disk a batch is refused with `DiskFull`, as a whole. What was acknowledged stays, also
/// after reopening, and with room again the store goes on, if need be after reopening.
pub async fn a_full_disk_refuses_and_keeps(subject: &Subject) -> Verdict {
    let place = Place::new()?;
    let _disk = match Mounted::tmpfs(&place) {
        Ok(disk) => disk,
        Err(why) => return Ok(Outcome::Skipped(format!("no small disk: {why}"))),
    };
    let ballast = place.root().join("ballast");
    fs::write(&ballast, vec![0; BALLAST]).map_err(|e| broken("no ballast", e))?;
    let store = place.open(subject).await.map_err(|e| broken("it does not open", e))?;
    let filled = fill(&*store).await?;
    let first = filled.refused.first().map(|error| error.kind());
    ensure!(first == Some(StoreErrorKind::DiskFull), "a full disk is told as {:?}", filled.refused.first());
    ensure!(!filled.acknowledged.is_empty(), "a disk of {DISK} bytes is too small for one batch");
    let mut acknowledged = filled.acknowledged;
    let told = |e: Broken| broken("on a full disk", e);
    // A store that has to be opened again says so; one that answers answers truly.
    if store.load(byway_api::Load::Seen, None, 1).await.is_ok() {
        check(&*store, &acknowledged).await.map_err(told)?;
    }
    fs::remove_file(&ballast).map_err(|e| broken("the ballast stays", e))?;
    if let Err(why) = works_on(&*store, &mut acknowledged).await {
        println!("with room again the store has to be opened again: {why}");
    }
    let _ = store.close().await;
    drop(store);
    let store = place.open(subject).await.map_err(|e| broken("the disk was full, and it does not open", e))?;
    check(&*store, &acknowledged).await.map_err(|e| broken("the disk was full", e))?;
    works_on(&*store, &mut acknowledged).await.map_err(|e| broken("the disk was full", e))?;
    store.close().await.map_err(|e| broken("it does not close", e))?;
    Ok(Outcome::Kept)
}
