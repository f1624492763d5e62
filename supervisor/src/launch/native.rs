//! Native services: programs of Hatchway's own that are units as tools are, on this machine as it is.
//!
//! Such a program is `hatchway-…`, beside `hatchway` or where packages put programs that people do not start. It says when it is ready by
//! `sd_notify` (sd_notify(3)) and ends at TERM. It finds its settings by its arguments, from the instrument's folder on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use hatchway_envs::sandbox::{self, HostFacts, HostPath, Mode, NativeSpec, User};
use hatchway_wire::log::Policy;
use hatchway_wire::ready::{Ready, Wish};

use super::{change_owner, fhs, identity, run_folder, shim};
use crate::context::Context;
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::Restart;
use crate::units::{self, Terms};

/// When one starts again that has ended.
pub(crate) const RESTART: Restart = Restart::OnFailure;
/// How long one may take until it is ready.
const READY_MS: u64 = 60_000;
/// How long one may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// Folders in which their programs are, from that of `hatchway` on.
const PLACES: [&str; 2] = ["", "../libexec/hatchway"];
/// Where an integrator puts one that no package has.
const LOCAL: &str = "/usr/local/libexec/hatchway";
/// Entries of `/` that are looked at.
const ENTRIES_MAX: usize = 256;

/// What one run of a native service is.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) unit: &'a str,
    pub(crate) incarnation: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [String],
    /// Where it starts.
    pub(crate) folder: &'a Path,
    /// As with a tool.
    pub(crate) user: Option<&'a str>,
}

/// Its program.
///
/// # Errors
/// There is none, or others may change it.
pub(crate) fn find(service: &str) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe"))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let mut places: Vec<PathBuf> = PLACES.iter().map(|place| folder.join(place)).collect();
    places.push(PathBuf::from(LOCAL));
    let found = places.iter().map(|place| place.join(service)).find(|path| path.is_file());
    let Some(found) = found else {
        let tried: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        return Err(Error::Host {
            message: format!("there is no native service `{service}`"),
            hints: vec![format!("its program was looked for in {}", tried.join(", "))],
        });
    };
    // Neither where it was found nor what that leads to is anybody's.
    refuse_foreign(&std::path::absolute(&found).map_err(Error::io("find", &found))?)?;
    let found = fs::canonicalize(&found).map_err(Error::io("find", &found))?;
    refuse_foreign(&found)?;
    Ok(found)
}

/// Root starts no program that others may change.
fn refuse_foreign(program: &Path) -> Result<(), Error> {
    if !is_root() {
        return Ok(());
    }
    for path in program.ancestors() {
        let about = fs::metadata(path).map_err(Error::io("look at", path))?;
        // In a folder like `/tmp` nobody takes away or renames what is not theirs.
        let is_shared = about.is_dir() && about.mode() & 0o1000 != 0;
        if about.uid() != 0 || (about.mode() & 0o022 != 0 && !is_shared) {
            return Err(Error::Host {
                message: format!("`{}` can be changed by others than root", path.display()),
                hints: vec![format!(
                    "`chown root: {0} && chmod go-w {0}`, once you trust what it is",
                    path.display()
                )],
            });
        }
    }
    Ok(())
}

/// How one is kept.
pub(crate) fn terms() -> Terms {
    Terms {
        logs: Policy::default(),
        linger: GRACE + units::LINGER,
        ready: Some(Wish { what: Ready::Notify, within_ms: READY_MS }),
        terminal: false,
    }
}

/// This process becomes its shim; comes back only with an error.
///
/// # Errors
/// When something that it needs is missing or refused.
pub(crate) fn run(context: &Context, request: &Request<'_>) -> Result<ExitCode, Error> {
    let (user, mode) = who(request)?;
    let dirs = &context.dirs;
    let state = folder_of(&dirs.data.join("services").join(request.unit), 0o700, &user)?;
    is_its_own(request.unit, &state, &user)?;
    let runtime = folder_of(&dirs.runtime.join("services").join(request.unit), 0o755, &user)?;
    // What is in it is of the run before: it goes to whoever the service is now. The folder above it is ours.
    change_owner(Path::new(runtime.as_str()), &user)?;
    let folder = run_folder::path(context, request.unit, request.incarnation)?;
    let carried = |path: &Path| HostPath::try_from(path).map_err(sandbox::Error::from);
    let spec = NativeSpec {
        unit: request.unit.to_owned(),
        incarnation: request.incarnation.to_owned(),
        program: sandbox::host_path(request.program)?,
        args: request.args.to_vec(),
        cwd: sandbox::host_path(request.folder)?,
        state,
        runtime,
        exit_file: carried(&folder.join(run_folder::EXIT))?,
        user,
        mode,
        grace_ms: u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX),
        ready: Ready::Notify,
    };
    let mut bootstrap = sandbox::native_plan(&spec, &entries(), &HostFacts::detect(Vec::new()))?;
    let door = fhs::visitors(&folder, &mut bootstrap)?;
    // Had it worked, this process would be the shim now.
    Err(sandbox::exec_shim(&shim()?, &bootstrap, vec![door]).into())
}

/// As a tool's user, with the groups that a user of this machine has: devices are opened by them.
fn who(request: &Request<'_>) -> Result<(User, Mode), Error> {
    let (user, mode) = identity(request.unit, request.user)?;
    let named = nix::unistd::User::from_uid(user.uid.into()).ok().flatten();
    let (Mode::Root { .. }, Some(named)) = (&mode, named) else { return Ok((user, mode)) };
    let name = std::ffi::CString::new(named.name)
        .map_err(|_| Error::Usage("a user's name has a NUL byte".into()))?;
    let groups = nix::unistd::getgrouplist(&name, user.gid.into())
        .map_err(|errno| Error::io("read the groups of", "the service's user")(errno.into()))?;
    // Root's group is nobody else's, whoever has put the user into it.
    let groups = groups.iter().map(|gid| gid.as_raw()).filter(|gid| *gid != 0).collect();
    Ok((user, Mode::Root { groups }))
}

/// What another account has kept is not handed over without a word.
fn is_its_own(unit: &str, state: &HostPath, user: &User) -> Result<(), Error> {
    let about = fs::symlink_metadata(state.as_str()).map_err(Error::io("look at", state.as_str()))?;
    if about.uid() == user.uid {
        return Ok(());
    }
    Err(Error::Host {
        message: format!(
            "what `{unit}` keeps in `{state}` belongs to uid {}, and it would run as uid {}",
            about.uid(),
            user.uid
        ),
        hints: vec![
            format!("`chown -R {}:{} {state}` hands it over", user.uid, user.gid),
            format!("or `user = \"{}\"` of the unit in instrument.toml is who it was", about.uid()),
        ],
    })
}

/// A folder of its own, in one of ours. A link in its place would be followed by nobody: the shim takes no path with one.
fn folder_of(path: &Path, mode: u32, user: &User) -> Result<HostPath, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => change_owner(path, user)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create", path)(error)),
    }
    Ok(sandbox::host_path(path)?)
}

/// The names in `/`.
fn entries() -> Vec<String> {
    let found = fs::read_dir("/").into_iter().flatten().flatten().take(ENTRIES_MAX);
    found.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
