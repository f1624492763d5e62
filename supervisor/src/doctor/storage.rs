//! The file system that the store lies on, or would: what it can do is tried in a folder that goes away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hatchway_envs::store::space;

use super::{Check, For, Look};
use crate::dirs::Dirs;

/// Below this a build of a graphical tool's environment may not fit: such a closure has about 300 MB.
const BYTES_MIN: u64 = 2 << 30;

pub(super) fn checks(look: &Look, dirs: &Dirs) -> Vec<Check> {
    let wanted = dirs.store();
    let folder = wanted.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
    let kind = kind(look, &folder);
    let mut checks = trial(&folder, &kind);
    checks.push(room(&folder));
    checks.push(one_file_system(&wanted, dirs));
    checks.push(
        Check::lacks(
            For::Store,
            "what a disk promises",
            "whether it keeps what it has confirmed cannot be tried from here",
            "a disk that lies may lose a build at a power cut; `verify` then finds it",
            "after a power cut: `hatchway store verify`",
        )
        .less(),
    );
    checks
}

/// The kind of the file system, by the longest mount point above a path.
fn kind(look: &Look, folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = look.text("proc/self/mounts");
    let fields = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.replace("\\040", " "), words.next()?))
    });
    // Of several on one point the last counts.
    let best = fields.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.len());
    best.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn trial(folder: &Path, kind: &str) -> Vec<Check> {
    let scratch = folder.join(format!(".hatchway-doctor-{}", std::process::id()));
    let files: [PathBuf; 3] = ["file", "link", "clone"].map(|name| scratch.join(name));
    let tried = try_in(&scratch, &files);
    for file in &files {
        drop(fs::remove_file(file));
    }
    drop(fs::remove_dir(&scratch));
    match tried {
        Err(error) => vec![Check::lacks(
            For::Store,
            "writing",
            format!("`{}` ({kind}): {error}", folder.display()),
            "nothing can be built",
            "set HATCHWAY_DATA_DIR to a folder that may be written",
        )],
        Ok((linked, cloned)) => {
            let mut checks =
                vec![Check::works(For::Store, "writing", format!("`{}` ({kind})", folder.display()))];
            checks.push(match linked {
                Ok(()) => Check::works(For::Store, "hard links", "made one"),
                Err(error) => Check::lacks(
                    For::Store,
                    "hard links",
                    error.to_string(),
                    "trees cannot be linked together: nothing can be built",
                    "put the store on ext4, XFS or Btrfs: set HATCHWAY_DATA_DIR",
                ),
            });
            checks.push(match cloned {
                Ok(()) => Check::works(For::Store, "reflinks", "made one"),
                Err(error) => Check::lacks(
                    For::Store,
                    "reflinks",
                    format!("{kind}: {error}"),
                    "a vendor's file is copied into the store instead of shared with it",
                    "XFS and Btrfs have them; nothing needs them",
                )
                .less(),
            });
            checks
        }
    }
}

type Tried = (io::Result<()>, io::Result<()>);

fn try_in(scratch: &Path, [file, link, clone]: &[PathBuf; 3]) -> io::Result<Tried> {
    fs::create_dir(scratch)?;
    fs::write(file, "hatchway")?;
    let linked = fs::hard_link(file, link);
    let cloned = File::create(clone).and_then(|target| {
        let source = File::open(file)?;
        Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
    });
    Ok((linked, cloned))
}

fn room(folder: &Path) -> Check {
    const NAME: &str = "room";
    let space = match space::of(folder) {
        Ok(space) => space,
        Err(error) => {
            return Check::lacks(
                For::Store,
                NAME,
                error.to_string(),
                "nobody knows whether a build fits",
                "set HATCHWAY_DATA_DIR",
            );
        }
    };
    let found = format!(
        "{} of {} free, {} more files",
        space::readable(space.available_bytes),
        space::readable(space.total_bytes),
        space.available_files
    );
    if space.available_bytes >= BYTES_MIN {
        return Check::works(For::Store, NAME, found);
    }
    Check::lacks(
        For::Store,
        NAME,
        found,
        "larger environments will not fit",
        "`hatchway store gc`, or set HATCHWAY_DATA_DIR",
    )
    .less()
}

/// Objects, trees and work in progress are linked and renamed among each other.
fn one_file_system(store: &Path, dirs: &Dirs) -> Check {
    const NAME: &str = "one file system";
    let device = |path: &Path| fs::metadata(path).map(|there| there.dev()).ok();
    let parts = ["objects", "trees", "tmp", "artifacts", "manifests", "packages", "builds"];
    let found: Vec<u64> = parts.iter().filter_map(|part| device(&store.join(part))).collect();
    if found.windows(2).any(|pair| pair[0] != pair[1]) {
        return Check::lacks(
            For::Store,
            NAME,
            "the store's folders lie on several",
            "nothing can be built",
            "mount one at the store's folder, or set HATCHWAY_DATA_DIR",
        );
    }
    if found.is_empty() {
        return Check::works(For::Store, NAME, "there is no store yet");
    }
    let elsewhere = device(&dirs.data).is_some_and(|data| found.first() != Some(&data));
    let state = if elsewhere {
        "the store has one of its own; state is copied to another"
    } else {
        "for store and state"
    };
    Check::works(For::Store, NAME, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_that_of_the_longest_mount_point() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /a\\040b xfs rw 0 0\n/dev/c / btrfs rw 0 0\n";
        fs::write(root.path().join("proc/self/mounts"), mounts).unwrap();
        let look = Look::at(root.path());
        assert_eq!(kind(&look, Path::new("/nowhere/x")), "btrfs");
        assert_eq!(kind(&look, Path::new("/a b/x")), "xfs");
        assert_eq!(kind(&look, Path::new("/tmp")), "tmpfs");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let checks = trial(Path::new("/proc"), "proc");
        assert_eq!((checks.len(), &*checks[0].name), (1, "writing"));
        assert!(!super::super::is_fit(&checks));
    }
}
