//! What twenty environments take on disk, against their distinct files.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;

use super::{Place, Programs, Recipes, Rows};
use crate::sh;

/// Each is added to `libgtk-3-0`.
const ADDED: [&str; 20] = [
    "libgtkmm-3.0-1v5",
    "libsdl2-2.0-0",
    "libcurl4",
    "libusb-1.0-0",
    "libnotify4",
    "libsecret-1-0",
    "libvte-2.91-0",
    "libwnck-3-0",
    "libgtksourceview-4-0",
    "libsoup2.4-1",
    "libserialport0",
    "libftdi1-2",
    "libhidapi-hidraw0",
    "libzmq5",
    "libsqlite3-0",
    "libfftw3-double3",
    "libgsl27",
    "libpeas-1.0-0",
    "libmodbus5",
    "libopenblas0-pthread",
];

pub(super) fn measure(programs: &Programs, place: &Place, recipes: &Recipes) -> Result<Rows> {
    // A recipe's name has no dots.
    let names: Vec<String> = (1..=ADDED.len()).map(|number| format!("with-{number}")).collect();
    for (name, package) in names.iter().zip(ADDED) {
        recipes.add(programs, name, &["libgtk-3-0", package])?;
    }
    let data = recipes.fresh(place, "twenty")?;
    for name in &names {
        sh::run(&mut recipes.command(programs, &data, &["build", name]))?;
    }
    let store = data.join("store");
    let mut files = HashMap::new();
    let mut entries = 0;
    blocks(&store.join("trees"), &mut files, &mut entries)?;
    // A file is counted once however many trees link it; what belongs to no file is folders and symbolic links.
    let distinct: u64 = files.iter().filter(|(_, (is_file, _))| *is_file).map(|(_, (_, bytes))| bytes).sum();
    for kind in ["objects", "packages", "manifests", "builds", "roots", "locks"] {
        blocks(&store.join(kind), &mut files, &mut entries)?;
    }
    let all: u64 = files.values().map(|(_, bytes)| bytes).sum();
    let megabytes = |bytes: u64| bytes / 1_000_000;
    #[allow(clippy::cast_precision_loss, reason = "a ratio with two digits")]
    let ratio = all as f64 / distinct.max(1) as f64;
    Ok(vec![
        (
            format!("{} environments, {entries} entries: all on disk", ADDED.len()),
            format!("{} MB", megabytes(all)),
        ),
        ("their distinct files".into(), format!("{} MB", megabytes(distinct))),
        ("all / distinct files".into(), format!("{ratio:.2}")),
    ])
}

/// Bytes on disk of everything below, by inode.
fn blocks(folder: &Path, files: &mut HashMap<u64, (bool, u64)>, entries: &mut u64) -> Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    files.insert(metadata.ino(), (metadata.is_file(), metadata.blocks() * 512));
    *entries += 1;
    if metadata.is_dir() {
        for entry in fs::read_dir(folder)? {
            blocks(&entry?.path(), files, entries)?;
        }
    }
    Ok(())
}
