//! A folder with the examples' plans, and the program in it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use hatchway_recon::image::Image;
use hatchway_recon::run::read_image;
use tempfile::TempDir;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/recon");

/// A folder with the examples' plans.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(EXAMPLES).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn recon(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hatchway-recon"));
        command.current_dir(self.folder.path()).args(args).output().unwrap()
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.recon(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a call that fails says.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.recon(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn change(&self, plan: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(plan)).unwrap();
        assert!(text.contains(from), "{plan} has no `{from}`");
        fs::write(self.path(plan), text.replace(from, to)).unwrap();
    }

    pub(crate) fn image(&self, name: &str) -> Image {
        read_image(&self.path(name)).unwrap().0
    }
}
