//! From a built tool to a running one: what the machine adds to the recipe, then the shim takes over this process.

mod audio;
mod bindings;
mod broker;
mod channels;
mod companion;
mod container;
mod dbus;
mod devices;
mod display;
mod fhs;
mod gpu;
mod identity;
mod interpreter;
mod lease;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod native;
mod network;
pub(crate) mod packets;
mod remapped;
pub(crate) mod run_folder;
mod rung;
mod session;
pub(crate) mod vm;
mod wine;
mod xauthority;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::Lock;
use hatchway_envs::sandbox::{
    self, BoundFile, Explained, HostFacts, HostPath, InsidePath, Mode, Share, Spec, StateDir, User,
};
use hatchway_envs::store::Mode as LockMode;
use hatchway_envs::store::manifest::Node;

use hatchway_wire::Bootstrap;

use crate::context::Context;
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::{self, Located};
use bindings::Bindings;
use companion::Running;
use remapped::Remapped;
use rung::Devices;
use session::Session;

pub(crate) use devices::is_there as device_there;
pub use rung::Isolation;

/// The uids that tools get when root runs them without `--user`: a range that neither distributions nor systemd's
/// containers use (systemd's UIDS-GIDS page lists 1879048192 to 2147483647 as unused). One for each tool's name.
const TOOL_UID_FIRST: u32 = 0x7000_0000;
/// What the command line adds.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The program inside.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// `slot=value`
    pub bind: Vec<String>,
    /// `DIR[:ro]`
    pub share: Vec<String>,
    /// `NAME`, `UID` or `UID:GID`; for root only.
    pub user: Option<String>,
    /// Print the plan of operations instead of running.
    pub explain: Option<Form>,
    /// How the tool is isolated.
    pub rung: Isolation,
    /// Which run it is, where a recorder keeps its folder.
    pub incarnation: Option<String>,
    /// The unit that it is, where that is not called as the tool is.
    pub unit: Option<String>,
}

/// What a run needs beside its spec.
struct Run<'a> {
    context: &'a Context,
    located: &'a Located,
    lock: &'a Lock,
    tree: Sha256,
    request: &'a Request,
    folder: &'a Path,
    /// What is held as long as the tool lives: locks.
    held: &'a [OwnedFd],
    /// Who is who in a container with users of its own.
    remapped: Option<&'a Remapped>,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line an operation.
    Lines,
    /// For programs.
    Json,
}

/// Runs a tool. On the fhs rung this process is replaced by the shim and comes back only with an error, or when explaining;
/// on others it comes back with the tool's exit code. `held` keeps the tree as long as the tool lives.
///
/// # Errors
/// When something the run needs is missing or refused.
pub fn launch(
    context: &Context,
    (located, lock): (&Located, &Lock),
    (tree, held): (Sha256, OwnedFd),
    request: &Request,
) -> Result<ExitCode, Error> {
    let remapped = Remapped::find(&located.recipe, request)?;
    let (mut spec, run, state) = spec(context, located, tree, request, remapped.as_ref())?;
    let prefix = wine::add(context, (located, lock), tree, request, &mut spec)?;
    let held = std::iter::once(held).chain(state).chain(prefix).collect();
    let mapped = remapped.as_ref();
    let done = start(context, (located, lock), (tree, held), (request, mapped), &run, &mut spec);
    if request.explain.is_none() && request.incarnation.is_none() && done.is_err() {
        // Nothing ran, so there is nothing to record: once something may have, a rung comes back with a record.
        run_folder::remove(&run);
    }
    done
}

/// The part that leaves something behind: the run's folder, and the programs that run beside the tool.
fn start(
    context: &Context,
    (located, lock): (&Located, &Lock),
    (tree, held): (Sha256, Vec<OwnedFd>),
    (request, remapped): (&Request, Option<&Remapped>),
    run: &Path,
    spec: &mut Spec,
) -> Result<ExitCode, Error> {
    if request.explain.is_none() {
        run_folder::make(run)?;
    }
    let mut running = companions(context, &located.recipe, request, run, spec)?;
    let dirs = &context.dirs;
    let own = [
        dirs.store(),
        dirs.own_recipes(),
        dirs.data.join("generations"),
        dirs.runtime.clone(),
        dirs.cache.clone(),
    ];
    let own = own.iter().filter_map(|path| sandbox::host_path(path).ok()).collect();
    let host = HostFacts::detect(own);
    let run = Run { context, located, lock, tree, request, folder: run, held: &held, remapped };
    match request.rung {
        Isolation::Fhs => fhs::run(&run, spec, &host, &mut running),
        Isolation::Container => container::run(&run, spec, &host),
        Isolation::Vm => vm::run(&run, spec, &host),
    }
}

/// What is asked of whoever makes the isolation, a line each.
struct Asked<'a> {
    whom: &'static str,
    lines: &'a [String],
}

fn explain(context: &Context, form: Form, bootstrap: &Bootstrap, asked: &Asked<'_>) {
    match form {
        Form::Lines => {
            for line in asked.lines {
                let plain: String =
                    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
                context.printer.data(format_args!("ask {} for {plain}", asked.whom));
            }
            context.printer.data(Explained(bootstrap));
        }
        Form::Json => {
            let mut plan = sandbox::explained_json(bootstrap);
            if !asked.lines.is_empty() {
                plan[asked.whom.trim_start_matches("the ").to_lowercase()] = asked.lines.into();
            }
            context.printer.data(format_args!("{plan:#}"));
        }
    }
}

pub(crate) fn shim() -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe"))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let places = [folder.join("hatchway-shim"), folder.join("../libexec/hatchway/hatchway-shim")];
    places.into_iter().find(|path| path.is_file()).ok_or(Error::NoShim(own))
}

/// What a guest has left on the disk of its state is read in a sandbox.
fn reader() -> Result<hatchway_vm::state::Sandbox, Error> {
    Ok(hatchway_vm::state::Sandbox { shim: shim()? })
}

fn spec(
    context: &Context,
    located: &Located,
    tree: Sha256,
    request: &Request,
    remapped: Option<&Remapped>,
) -> Result<(Spec, PathBuf, Option<OwnedFd>), Error> {
    let recipe = &located.recipe;
    let name = recipe.package.name.as_str();
    let (user, mode) = match remapped {
        Some(_) => (Remapped::inside()?, Mode::Root { groups: Vec::new() }),
        None => identity(name, request.user.as_deref())?,
    };
    // Who the tool is on the host.
    let owner = remapped.map_or_else(|| user.clone(), |remapped| remapped.outside(&user));
    let root = sandbox::host_path(context.store.tree(tree))?;
    let unit = request.unit.as_deref().unwrap_or(name);
    let mut spec = Spec::new(unit, root, &request.program, user.clone(), mode);
    spec.incarnation = request.incarnation.clone().unwrap_or_else(incarnation);
    spec.args.clone_from(&request.args);
    spec.env = recipe.run.env.clone();
    spec.health = recipe.service.as_ref().and_then(|service| service.health.as_ref()).and_then(health);
    let ready = recipe.service.as_ref().and_then(|service| service.ready.as_ref());
    spec.ready = ready.map(|ready| ready.get_ref().what.clone());
    if let Some(stop) = recipe.service.as_ref().and_then(|service| service.stop) {
        spec.grace_ms = stop.grace.ms();
        spec.stop_signal = Some(stop.signal.number());
    }
    spec.remapped = remapped.is_some();
    spec.services = recipe.run.services.iter().map(|name| name.as_str().to_owned()).collect();
    spec.machine_id = machine_id(name);
    spec.i386 = recipe.environment.architectures.contains(&recipe::Architecture::I386);
    spec.network = network::network(&recipe.run.network);
    let bindings = Bindings::new(recipe, &request.bind)?;
    let mut state = None;
    if request.rung.nature().folders && request.explain.is_none() && !recipe.run.state.is_empty() {
        // A guest may have had it last, and gets it only when this run has ended.
        let owner = is_root().then_some((owner.uid, owner.gid));
        state = Some(hatchway_vm::state::share(&state_parent(context, name)?, owner, &reader()?)?);
    }
    if let Some(size) = recipe.run.shm {
        spec.shm_size = size.bytes();
    }
    for at in &recipe.run.state {
        let at = at.get_ref();
        let folder = state_folder(context, name, at.as_str())?;
        if request.explain.is_none() {
            make_state(context, name, tree, at.as_str(), &folder, &owner)?;
        }
        usable(&folder, &owner)?;
        let host = HostPath::try_from(folder.as_path()).map_err(sandbox::Error::from)?;
        spec.state.push(StateDir { host, at: inside(at.as_str())? });
    }
    spec.files = files(context, recipe, &bindings)?;
    spec.tree_users = accounts(context, tree, "etc/passwd")?;
    spec.tree_groups = accounts(context, tree, "etc/group")?;
    spec.shares = request.share.iter().map(|text| share(context, text)).collect::<Result<_, _>>()?;
    if let [one] = &spec.shares[..] {
        spec.cwd = Some(one.at.clone());
    }
    let run = run_folder::path(context, unit, &spec.incarnation)?;
    let exit_file = HostPath::try_from(run.join(run_folder::EXIT).as_path());
    spec.exit_file = Some(exit_file.map_err(sandbox::Error::from)?);
    if recipe.run.gpu {
        gpu::add(context, tree, &mut spec)?;
    }
    machine(context, recipe, request, &bindings, &mut spec)?;
    Ok((spec, run, state))
}

fn health(health: &recipe::Health) -> Option<sandbox::Health> {
    let (program, args) = health.command.get_ref().split_first()?;
    Some(sandbox::Health {
        program: program.clone(),
        args: args.to_vec(),
        every_ms: health.every.ms(),
        timeout_ms: health.timeout.ms(),
        failures: *health.failures.get_ref(),
        ends: health.then == recipe::Then::End,
        start_ms: health.start.ms(),
    })
}

/// What of this machine the recipe asks for: nothing happens for what it does not.
fn machine(
    context: &Context,
    recipe: &recipe::Recipe,
    request: &Request,
    bindings: &Bindings<'_>,
    spec: &mut Spec,
) -> Result<(), Error> {
    identity::add(context, recipe, bindings, spec)?;
    channels::add(context, recipe, bindings, spec)?;
    let nature = request.rung.nature();
    if nature.devices != Devices::Guests {
        devices::add(context, recipe, (bindings, nature.devices), spec)?;
    }
    if nature.keeps_limits {
        limits::of_engine(&recipe.run, spec);
        return Ok(());
    }
    limits::add(context, &recipe.run, request.explain.is_some(), spec)
}

/// Display and sound, with the programs of the host that stand between them and the tool.
fn companions(
    context: &Context,
    recipe: &recipe::Recipe,
    request: &Request,
    run: &Path,
    spec: &mut Spec,
) -> Result<Running, Error> {
    let mut running = Running::default();
    if let Some(wish) = &recipe.run.dbus {
        dbus::add(&Session::find(), wish, run, request.explain.is_some(), spec, &mut running)?;
    }
    match recipe.run.audio {
        recipe::Audio::None => {}
        recipe::Audio::Shared => audio::shared(context, &Session::find(), spec)?,
        recipe::Audio::Own => {
            audio::own(&Session::find(), run, request.explain.is_some(), spec, &mut running)?;
        }
    }
    match recipe.run.display {
        recipe::Display::None => {}
        recipe::Display::Shared => display::shared(context, &Session::find(), spec)?,
        recipe::Display::Nested => {
            display::nested(context, &Session::find(), run, request.explain.is_some(), spec, &mut running)?;
        }
    }
    Ok(running)
}

/// Bytes of a tree's passwd or group file that are read.
const ACCOUNTS_BYTES_MAX: u64 = 256 << 10;

/// The users or groups of the tree; none where it has no such file.
fn accounts(context: &Context, tree: Sha256, path: &str) -> Result<String, Error> {
    let text = tree_file(context, tree, path, ACCOUNTS_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first `bound` bytes of a file of the tree; none where it has no such file.
fn tree_file(context: &Context, tree: Sha256, path: &str, bound: u64) -> Result<Vec<u8>, Error> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    use std::io::Read;
    let path = path.trim_start_matches('/');
    let folder = fs::File::open(context.store.tree(tree)).map_err(Error::io("open", path))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // A link would be a vendor's, and lead onto the host.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let Ok(file) = rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve) else {
        return Ok(Vec::new());
    };
    let mut bytes = Vec::new();
    fs::File::from(file).take(bound).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

fn inside(path: &str) -> Result<InsidePath, Error> {
    Ok(InsidePath::new(path).map_err(sandbox::Error::from)?)
}

/// Tells one run of a tool from all others, those that began in the same millisecond too.
pub(crate) fn incarnation() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    format!("{now}-{}", std::process::id())
}

/// Who the tool runs as: an ordinary user's tools run as that user; root's as `--user`, as whoever called sudo, or under
/// a uid of the tool's own. Never uid 0.
fn identity(name: &str, wish: Option<&str>) -> Result<(User, Mode), Error> {
    if !is_root() {
        if wish.is_some() {
            return Err(Error::Usage("only root can choose another user with `--user`".into()));
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        return Ok((User::new(&login_name(uid), uid, gid)?, Mode::User));
    }
    let sudo = || {
        Some((std::env::var("SUDO_UID").ok()?.parse().ok()?, std::env::var("SUDO_GID").ok()?.parse().ok()?))
    };
    let (uid, gid) = match wish {
        Some(wish) => named_user(wish)?,
        None => sudo().filter(|(uid, gid)| *uid != 0 && *gid != 0).unwrap_or_else(|| tool_ids(name)),
    };
    if uid == 0 || gid == 0 {
        return Err(Error::Usage(
            "a tool never runs as uid 0 or gid 0: choose another user with `--user`".into(),
        ));
    }
    Ok((User::new(&login_name(uid), uid, gid)?, Mode::Root { groups: Vec::new() }))
}

fn tool_ids(name: &str) -> (u32, u32) {
    let hex = Sha256::of(name.as_bytes()).hex();
    let offset = u32::from_str_radix(&hex[..4], 16).unwrap_or(0);
    (TOOL_UID_FIRST + offset, TOOL_UID_FIRST + offset)
}

fn named_user(wish: &str) -> Result<(u32, u32), Error> {
    let (user, group) = wish.split_once(':').map_or((wish, None), |(user, group)| (user, Some(group)));
    let wrong = || Error::Usage(format!("`{wish}` is not a user of this host, nor UID or UID:GID"));
    let (uid, own_gid) = match user.parse::<u32>() {
        Ok(uid) => {
            (uid, nix::unistd::User::from_uid(uid.into()).ok().flatten().map_or(uid, |u| u.gid.as_raw()))
        }
        Err(_) => {
            let found = nix::unistd::User::from_name(user).ok().flatten().ok_or_else(wrong)?;
            (found.uid.as_raw(), found.gid.as_raw())
        }
    };
    let gid = match group {
        Some(group) => group.parse().map_err(|_| wrong())?,
        None => own_gid,
    };
    Ok((uid, gid))
}

/// The user's name on the host, or `tool`: names with other characters than a passwd file bears are not taken over.
fn login_name(uid: u32) -> String {
    // Of these the host knows none, and asking it costs more than the rest of the launch's preparation.
    if uid >= TOOL_UID_FIRST {
        return "tool".into();
    }
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let plain = |name: &String| {
        !name.is_empty()
            && name.len() <= 32
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !name.starts_with(['.', '-'])
    };
    name.filter(plain).unwrap_or_else(|| "tool".into())
}

/// Stable on this host for this tool, and not the host's own: licences bound to it survive updates.
fn machine_id(name: &str) -> String {
    let host = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::of(format!("hatchway machine-id\n{}\n{name}\n", host.trim()).as_bytes());
    digest.hex()[..32].to_owned()
}

/// The folder of the host behind a state folder. It need not be there yet.
///
/// Each has a flat name below the tool's own folder, which belongs to us: no path that is used here leads through a
/// folder that a tool may write.
fn state_folder(context: &Context, tool: &str, at: &str) -> Result<PathBuf, Error> {
    let flat = at.trim_matches('/').replace('/', "-");
    let name = format!("{flat}-{}", &Sha256::of(at.as_bytes()).hex()[..8]);
    Ok(state_parent(context, tool)?.join(name))
}

/// The folder in which a tool's state is, without a link on the way to it.
fn state_parent(context: &Context, tool: &str) -> Result<PathBuf, Error> {
    let parent = context.dirs.state(tool);
    // What is there of it may be a link; what is not there yet leads nowhere else.
    let there = parent.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok());
    let Some(there) = there else { return Ok(parent) };
    let rest = parent.strip_prefix(there).unwrap_or(Path::new(""));
    Ok(PathBuf::from(sandbox::host_path(there)?.as_str()).join(rest))
}

/// Makes a state folder at the first run, with what the tree has there.
fn make_state(
    context: &Context,
    tool: &str,
    tree: Sha256,
    at: &str,
    folder: &Path,
    user: &User,
) -> Result<(), Error> {
    if fs::symlink_metadata(folder).is_ok() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    // Of several first runs at once, one makes it: a second must not put another in its place.
    let _alone = context.store.lock(&format!("state-{tool}"), LockMode::Exclusive)?;
    if fs::symlink_metadata(folder).is_err() {
        let staged = parent.join(format!(".new-{}", incarnation()));
        seed(context, tree, at, &staged)?;
        own_all(&staged, user)?;
        fs::rename(&staged, folder).map_err(Error::io("rename", &staged))?;
    }
    Ok(())
}

/// State that another user's run made cannot be used; better said here than by the tool. What is not there yet can.
fn usable(folder: &Path, user: &User) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let Ok(there) = fs::symlink_metadata(folder) else { return Ok(()) };
    if !there.is_dir() {
        return Err(Error::Usage(format!("`{}` is not a folder", folder.display())));
    }
    if there.uid() == user.uid {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "the state in `{}` belongs to uid {}, and the tool would run as uid {}: run it as that user with `--user`, or \
         change the folder's owner",
        folder.display(),
        there.uid(),
        user.uid
    )))
}

/// Copies what the tree has below `at` from the store's objects, by the manifest: no link of a vendor's is followed on
/// the host.
fn seed(context: &Context, tree: Sha256, at: &str, to: &Path) -> Result<(), Error> {
    let manifest = context.store.manifest(tree)?;
    let wrong = |reason| Error::Usage(format!("the state folder `{at}`: {reason}"));
    let root = manifest.resolve(at).map_err(wrong)?;
    fs::create_dir(to).map_err(Error::io("create", to))?;
    let prefix = format!("{root}/");
    for (path, node) in
        manifest.nodes.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix))
    {
        let target = to.join(&path[prefix.len()..]);
        match node {
            Node::Directory => fs::create_dir(&target).map_err(Error::io("create", &target))?,
            Node::Link { target: link } => {
                std::os::unix::fs::symlink(link, &target).map_err(Error::io("link", &target))?;
            }
            Node::File { sha256, executable, .. } => {
                let mut content = context.store.open_object(*sha256, *executable)?;
                let mut file = fs::File::create_new(&target).map_err(Error::io("create", &target))?;
                std::io::copy(&mut content, &mut file).map_err(Error::io("write", &target))?;
                let mode = if *executable { 0o700 } else { 0o600 };
                file.set_permissions(fs::Permissions::from_mode(mode))
                    .map_err(Error::io("change the mode of", &target))?;
            }
        }
    }
    Ok(())
}

/// Hands a folder that nobody else can reach yet to the tool's user.
fn own_all(folder: &Path, user: &User) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if entry.file_type().map_err(Error::io("read", folder))?.is_dir() {
            own_all(&entry.path(), user)?;
        } else {
            change_owner(&entry.path(), user)?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(Error::io("change the mode of", folder))?;
    change_owner(folder, user)
}

fn change_owner(path: &Path, user: &User) -> Result<(), Error> {
    if !is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))
        .map_err(Error::io("change the owner of", path))
}

/// The file slots that are bound; the others are told, since the tool will miss them.
fn files(
    context: &Context,
    recipe: &recipe::Recipe,
    bindings: &Bindings<'_>,
) -> Result<Vec<BoundFile>, Error> {
    let mut files = Vec::new();
    for slot in &recipe.files {
        let name = slot.name.get_ref().as_str();
        match bindings.get(name) {
            Some(value) => {
                files.push(BoundFile { host: sandbox::host_path(value)?, at: inside(slot.at.as_str())? });
            }
            None => context.printer.warn(format!(
                "the file slot `{name}` ({}) is not bound; bind it with `--bind {name}=FILE`",
                slot.at.as_str()
            )),
        }
    }
    Ok(files)
}

/// Whether this process is of a group. One that was started from another process namespace has none: 0, of which rustix's own
/// function makes a panic.
fn is_own_group(group: rustix::process::Pid) -> bool {
    group.as_raw_pid() == nix::unistd::getpgrp().as_raw()
}

/// Where X servers of this host have their sockets.
const X_SOCKETS: &str = "/tmp/.X11-unix";

fn share(context: &Context, text: &str) -> Result<Share, Error> {
    let (path, read_only) = match text.strip_suffix(":ro") {
        Some(path) => (path, true),
        None => (text, false),
    };
    if !Path::new(path).exists() {
        return Err(Error::Host {
            message: format!("`--share {text}`: there is no `{path}`"),
            hints: vec![
                "make the folder first: `mkdir -p FOLDER`; it appears at the same path inside".into(),
            ],
        });
    }
    let host = sandbox::host_path(path)?;
    if !Path::new(host.as_str()).is_dir() {
        let folder = Path::new(host.as_str()).parent().unwrap_or(Path::new("/")).display().to_string();
        return Err(Error::Host {
            message: format!("`--share {text}`: `{host}` is not a folder"),
            hints: vec![format!("share the folder it is in: `--share {folder}:ro`")],
        });
    }
    let displays = HostPath::new(X_SOCKETS).map_err(sandbox::Error::from)?;
    if host.is_within(&displays) || displays.is_within(&host) {
        context.printer.warn(format!(
            "`--share {text}` shows the sockets of this host's displays: a tool that gets onto one can read what is typed \
             there; `display = \"nested\"` in the recipe gives it one of its own"
        ));
    }
    let at = inside(host.as_str())?;
    Ok(Share { host, at, read_only })
}
