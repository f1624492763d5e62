//! Where it is measured. ext4 does not reuse an inode for some minutes after its file was removed, and looks for another one
//! instead: a folder in which tests have just removed a hundred thousand files is slower by half. So root measures on a
//! file system of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::sh;

pub(super) struct Place {
    /// Holds the image, too; dropped after it is unmounted.
    scratch: sh::Scratch,
    root: PathBuf,
    mounted: bool,
    /// For the table.
    pub(super) kind: String,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let scratch = sh::Scratch::new("hatchway-bench")?;
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&scratch.path, everybody)?;
        let (image, root) = (scratch.path.join("image"), scratch.path.join("disk"));
        std::fs::create_dir(&root)?;
        let mut steps = [Command::new("truncate"), Command::new("mkfs.ext4"), Command::new("mount")];
        steps[0].args(["--size=10G"]).arg(&image);
        steps[1].args(["-q", "-F"]).arg(&image);
        steps[2].args(["-o", "loop"]).arg(&image).arg(&root);
        let mounted = sh::is_root()? && steps.iter_mut().all(sh::succeeds);
        let kind = if mounted {
            "ext4, new, in a file (loop device)".to_owned()
        } else {
            let shown = sh::capture(Command::new("stat").args(["-f", "-c", "%T"]).arg(&root))?;
            format!("{}, shared with others (root would make a new one)", shown.trim())
        };
        Ok(Self { scratch, root, mounted, kind })
    }

    /// A folder of this name, made if it is missing.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Lazily: an engine that has just ended may still hold a mount below it for a moment.
        if self.mounted
            && !sh::succeeds(Command::new("umount").args(["--recursive", "--lazy"]).arg(&self.root))
        {
            eprintln!("warning: `{}` stays mounted", self.root.display());
            self.scratch.keep = true;
        }
    }
}
