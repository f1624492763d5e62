//! A screen without a monitor: the X server that nested displays of the tools open their windows on.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, bail};

use crate::sh;

/// Smallest mean brightness of a picture with something on it, in percent of white: an empty screen is black.
const BRIGHTNESS: f64 = 1.0;

/// What this verb needs beside what tests need, and what Debian calls it.
const TOOLS: [(&str, &str); 4] =
    [("Xvfb", "xvfb"), ("Xephyr", "xserver-xephyr"), ("import", "imagemagick"), ("xdotool", "xdotool")];

/// Fails with the names of what is missing.
pub(super) fn check() -> Result<()> {
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| !sh::succeeds(Command::new("which").arg(program)))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this needs {0}\nhint: apt-get install --no-install-recommends {0}", missing.join(" "))
}

pub(super) struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    pub(super) fn start() -> Result<Self> {
        let number = (90..200).find(|number| !Path::new(&format!("/tmp/.X11-unix/X{number}")).exists());
        let display = format!(":{}", number.context("all X displays are taken")?);
        let mut command = Command::new("Xvfb");
        command.args([&display, "-screen", "0", "1280x900x24", "-nolisten", "tcp"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().context("cannot start `Xvfb`")?;
        let socket = format!("/tmp/.X11-unix/X{}", &display[1..]);
        for _ in 0..100 {
            if fs::exists(&socket).unwrap_or(false) {
                return Ok(Self { server, display });
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("`Xvfb {display}` does not start")
    }

    pub(super) fn display(&self) -> &str {
        &self.display
    }

    /// Moves the pointer, presses buttons and keys: words of `xdotool`.
    pub(super) fn act(&self, words: &str) -> Result<()> {
        sh::run(Command::new("xdotool").args(words.split_whitespace()).env("DISPLAY", &self.display))
    }

    /// Keeps what is on the screen, which must be more than an empty one; its mean brightness in percent.
    pub(super) fn picture(&self, file: &Path) -> Result<f64> {
        sh::run(Command::new("import").args(["-window", "root"]).arg(file).env("DISPLAY", &self.display))?;
        let mean = sh::capture(Command::new("identify").args(["-format", "%[fx:100*mean]"]).arg(file))?;
        let mean: f64 = mean.trim().parse().with_context(|| format!("`identify` says `{mean}`"))?;
        if mean < BRIGHTNESS {
            bail!("nothing is drawn: {mean:.2} % of white");
        }
        Ok(mean)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait().map(drop)) {
            eprintln!("warning: the X server {} stays behind: {error}", self.server.id());
        }
    }
}
