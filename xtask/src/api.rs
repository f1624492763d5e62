//! `cargo xtask api`: schemathesis against the daemon's API, by the OpenAPI file in the tree.
//!
//! It knows nothing of Unix sockets, so a relay on loopback stands between. It asks as whoever runs this, whom the daemon has as admin.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::supervisor::{SLEEPS, Stage, unit};
use crate::{setup, sh};

/// From PyPI; what it finds depends on its version.
const TOOL: &str = "schemathesis==4.32.5";
/// Requests for each operation and phase; they come again with the same seed.
const EXAMPLES: &str = "60";
const SEED: &str = "1";
/// An upgrade is no answer that it understands.
const LEFT_OUT: &str = "/v1/units/{unit}/attach";

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::setup(yes)?;
    let program = tool()?;
    let fails = "echo no licence >&2; exit 3";
    let mut stage = Stage::new(
        &(unit("goes", SLEEPS, "")
            + &unit("fails", fails, "")
            + &unit("rests", SLEEPS, "start = \"manual\"")),
    )?;
    stage.begin()?;
    stage.until_answers()?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    let socket = stage.socket();
    std::thread::spawn(move || relay(&listener, &socket));
    let mut command = Command::new(program);
    command.arg("run").arg(sh::workspace()?.join("docs/schemas/openapi.json"));
    command.args(["--url", &format!("http://{address}"), "--max-examples", EXAMPLES, "--seed", SEED]);
    // That a file of this name is there and is an instrument no schema can say.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    // A stream ends when nobody wants it any more.
    command.args(["--request-timeout", "5", "--exclude-path", LEFT_OUT, "--no-color"]);
    sh::run(command.current_dir(stage.folder()))
}

/// In an environment of its own below the target folder.
fn tool() -> Result<PathBuf> {
    let folder = sh::target_folder()?.join("schemathesis");
    let program = folder.join("bin/schemathesis");
    let is_there = sh::capture(Command::new(&program).arg("--version"))
        .is_ok_and(|said| TOOL.ends_with(said.split_whitespace().last().unwrap_or("-")));
    if !is_there {
        sh::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        sh::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", TOOL]))?;
    }
    Ok(program)
}

fn relay(listener: &TcpListener, socket: &Path) {
    for stream in listener.incoming().flatten() {
        let Ok(daemon) = UnixStream::connect(socket) else { continue };
        std::thread::spawn(move || carry(&stream, &daemon));
    }
}

/// Both ways, until one of them has enough; who is gone is seen by the other.
fn carry(stream: &TcpStream, daemon: &UnixStream) {
    let (Ok(mut asks), Ok(mut answers)) = (stream.try_clone(), daemon.try_clone()) else { return };
    let (mut to, mut from) = (daemon, stream);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            drop(io::copy(&mut asks, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
        drop(io::copy(&mut answers, &mut from));
        drop(from.shutdown(Shutdown::Both));
    });
}
