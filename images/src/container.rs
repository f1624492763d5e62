//! A container of this machine's engine for one unit.
//!
//! The engine makes the isolation and nothing else: the tool's streams, signals and its end go over the unit's own socket
//! ([`hatchway_wire::attend::LeaseOrder`]), so an engine that is restarted, or hangs, is not in their way. What is not named
//! in the specification is taken away: capabilities, devices, networks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
    SystemInfoCgroupVersionEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt;
use hatchway_envs::digest::Sha256;
use hatchway_envs::sandbox::{Outside, Resource, ResourceLimit};

use crate::engine::{Engine, failed};
use crate::error::Error;

/// Where in a container the shim and its files are.
const FOLDER: &str = "/.hatchway";
/// Labels of containers.
const UNIT: &str = "org.hatchway.unit";
const INCARNATION: &str = "org.hatchway.incarnation";
/// The process that made the container. While it lives, the container is its to remove.
const OWNER: &str = "org.hatchway.owner";
/// Where that number is a process's: this start of the machine, this process namespace.
const SCOPE: &str = "org.hatchway.scope";
/// How old a container is, in seconds, of whose maker nothing can be told, before it is taken for left over. Between making
/// and starting one are moments.
const FOREIGN_AGE_S: i64 = 60 * 60;
/// The label of an image: the whole digest of the tree that it holds.
const TREE: &str = "org.hatchway.tree.digest";
/// The period of limits of processor time, in microseconds.
const CPU_PERIOD_US: i64 = 100_000;
/// Processes of the shim in a container: the attendant and its inner half.
const SHIMS: u64 = 2;
/// What an engine that stops a container waits beyond the unit's grace time, in which the shim ends the unit itself.
const STOP_MORE: Duration = Duration::from_secs(5);
/// What the shim says before it has the unit's streams is a line or two.
const LOG_SIZE: &str = "64k";
/// How many lines of it an error shows.
const LOG_LINES: &str = "10";

/// Where in a container the socket of the unit is.
pub const LEASE: &str = "/.hatchway/lease";

/// A container to be made.
#[derive(Debug, Clone)]
pub struct Specification {
    /// The unit's name.
    pub unit: String,
    /// Which run of it.
    pub incarnation: String,
    /// The image's id in the engine.
    pub image: String,
    /// `hatchway-shim` on the host.
    pub shim: PathBuf,
    /// The shim's bootstrap on the host.
    pub bootstrap: PathBuf,
    /// The unit's socket on the host.
    pub lease: PathBuf,
    /// How long the unit has to end when it is asked to.
    pub grace: Duration,
    /// What the plan asks of the engine.
    pub outside: Outside,
}

/// How often an engine is asked to remove a container.
const REMOVALS_MAX: u32 = 4;

/// A container of ours; it is removed when this is dropped, whatever runs in it.
#[derive(Debug)]
pub struct Container {
    runtime: tokio::runtime::Runtime,
    docker: Docker,
    id: String,
}

/// How the engine says that a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// It knows it still.
    pub known: bool,
    /// It runs.
    pub running: bool,
    /// The kernel killed something in it for memory.
    pub oom: bool,
    /// The exit code of its first process.
    pub code: Option<i64>,
    /// What went wrong in the engine's words; empty where nothing did.
    pub error: String,
}

impl Engine {
    /// The id of an image of a tree by its name, if the engine has it and its id, which is a digest of what it is, is among those
    /// `known`. A name alone says nothing: `docker commit` gives it to another image, which keeps the label.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn image_of(&self, tagged: &str, tree: Sha256, known: &[String]) -> Result<Option<String>, Error> {
        Ok(self.named(tagged, tree)?.filter(|id| known.contains(id)))
    }

    /// The id that the engine gives an image of a tree which it was just sent.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn named(&self, tagged: &str, tree: Sha256) -> Result<Option<String>, Error> {
        let runtime = crate::engine::runtime()?;
        runtime.block_on(async {
            let docker = self.connect().await?;
            match docker.inspect_image(tagged).await {
                Ok(found) => {
                    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                    let fits = labels.get(TREE).is_some_and(|digest| digest.ends_with(&tree.to_string()));
                    Ok(found.id.filter(|_| fits))
                }
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(failed("be asked for the image")(error)),
            }
        })
    }

    /// Makes a container, which does not run yet. Those of earlier runs that have ended, and whose maker was killed, are
    /// removed.
    ///
    /// # Errors
    /// [`Error::Remapped`], [`Error::Engine`].
    pub fn create(&self, wanted: &Specification) -> Result<Container, Error> {
        let runtime = crate::engine::runtime()?;
        let (docker, id) = runtime.block_on(async {
            let docker = self.connect().await?;
            if !wanted.outside.remapped {
                refuse_remapped(&docker).await?;
            }
            sweep(&docker).await?;
            let name = format!("hatchway-{}-{}", wanted.unit, wanted.incarnation);
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let made = docker.create_container(Some(options), body(wanted)).await;
            Ok::<_, Error>((docker, made.map_err(failed("make the container"))?.id))
        })?;
        Ok(Container { runtime, docker, id })
    }
}

/// What an engine gives its containers, as far as an init system needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ability {
    /// Control groups of version 2, of which each container gets a part of its own.
    pub groups: bool,
    /// The user and the group of the host that root inside is; those above it follow.
    pub root: Option<(u32, u32)>,
}

impl Engine {
    /// What it gives its containers.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn ability(&self) -> Result<Ability, Error> {
        let runtime = crate::engine::runtime()?;
        runtime.block_on(async {
            let docker = self.connect().await?;
            let info = docker.info().await.map_err(failed("be asked about itself"))?;
            let groups = info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2);
            let options = info.security_options.unwrap_or_default();
            let remapped = options.iter().any(|option| option == "name=userns");
            // An engine that is not root's maps ids in a way that it does not tell.
            let root = info.docker_root_dir.filter(|_| remapped).and_then(|folder| root_of(&folder));
            Ok(Ability { groups, root })
        })
    }
}

/// A docker with `userns-remap` keeps everything in a folder that is called after what its containers' root is:
/// `/var/lib/docker/100000.100000`.
fn root_of(folder: &str) -> Option<(u32, u32)> {
    let (user, group) = folder.rsplit('/').next()?.split_once('.')?;
    Some((user.parse().ok()?, group.parse().ok()?))
}

/// Where the engine's ids are others than the host's, state would belong to nobody the tool knows.
async fn refuse_remapped(docker: &Docker) -> Result<(), Error> {
    let info = docker.info().await.map_err(failed("be asked about itself"))?;
    let options = info.security_options.unwrap_or_default();
    let named = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
    for name in ["name=rootless", "name=userns"] {
        if named(name) {
            return Err(Error::Remapped(name.trim_start_matches("name=").to_owned()));
        }
    }
    Ok(())
}

/// A maker that was killed leaves a container that nothing removes.
async fn sweep(docker: &Docker) -> Result<(), Error> {
    // Podman has other names for what is not running than docker, and refuses those that it does not know.
    let filters = HashMap::from([("label".to_owned(), vec![OWNER.to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await.map_err(failed("list its containers"))?;
    let runs = |state: &str| ["running", "paused", "restarting"].contains(&state);
    let (scope, now) = (scope(), now_s());
    for container in found {
        if container.state.is_some_and(|state| runs(state.as_ref())) {
            continue;
        }
        let age_s = now.saturating_sub(container.created.unwrap_or(now));
        let left = is_left(&container.labels.unwrap_or_default(), &scope, age_s, is_ours);
        if let Some(id) = container.id.filter(|_| left) {
            let options = RemoveContainerOptionsBuilder::new().force(true).build();
            // Another run may have removed it meanwhile.
            drop(docker.remove_container(&id, Some(options)).await);
        }
    }
    Ok(())
}

/// Whether nobody is to remove a container that does not run. The number of its maker says something only where it was given:
/// on the same engine there may be makers in other process namespaces.
fn is_left(labels: &HashMap<String, String>, scope: &str, age_s: i64, alive: impl Fn(u32) -> bool) -> bool {
    let same = !scope.is_empty() && labels.get(SCOPE).is_some_and(|there| there == scope);
    let owner = labels.get(OWNER).and_then(|pid| pid.parse::<u32>().ok());
    if same { !owner.is_some_and(alive) } else { age_s >= FOREIGN_AGE_S }
}

/// Where numbers of processes mean what they mean to this one; empty where that cannot be told.
fn scope() -> String {
    use std::os::unix::fs::MetadataExt;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino());
    namespace.map_or_else(|_| String::new(), |namespace| format!("{}/{namespace}", boot.trim()))
}

fn now_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a process is one of ours; its number may be another's by now.
fn is_ours(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("hatchway"))
}

impl Container {
    /// Its id in the engine.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Engine`] with what the engine said.
    pub fn start(&self) -> Result<(), Error> {
        self.runtime
            .block_on(self.docker.start_container(&self.id, None))
            .map_err(failed("start the container"))
    }

    /// The number of its first process on this machine; nothing where it has ended.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn first_process(&self) -> Result<Option<u32>, Error> {
        let found = self.runtime.block_on(self.docker.inspect_container(&self.id, None));
        let state = found.map_err(failed("be asked for the container"))?.state.unwrap_or_default();
        Ok(state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0))
    }

    /// What the engine knows of it. An engine that does not answer knows nothing.
    #[must_use]
    pub fn state(&self) -> State {
        let Ok(found) = self.runtime.block_on(self.docker.inspect_container(&self.id, None)) else {
            return State::default();
        };
        let state = found.state.unwrap_or_default();
        State {
            known: true,
            running: state.running.unwrap_or_default(),
            oom: state.oom_killed.unwrap_or_default(),
            code: state.exit_code,
            error: state.error.unwrap_or_default(),
        }
    }

    /// What the shim said before it had the unit's streams, or when it could not get them.
    #[must_use]
    pub fn log(&self) -> String {
        self.runtime.block_on(async {
            let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LOG_LINES).build();
            let mut lines = self.docker.logs(&self.id, Some(options));
            let mut text = String::new();
            while let Some(Ok(line)) = lines.next().await {
                text.push_str(&line.to_string());
            }
            text
        })
    }

    /// Removes it with whatever runs in it.
    fn remove(&self) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        // With an engine that does not answer it is left to the next run.
        // A busy engine may give up on the first wish; the next run in a container tries what is left then.
        for _ in 0..REMOVALS_MAX {
            let done = self.runtime.block_on(self.docker.remove_container(&self.id, Some(options.clone())));
            let gone = matches!(
                &done,
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
            );
            if done.is_ok() || gone {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.remove();
    }
}

fn body(wanted: &Specification) -> ContainerCreateBody {
    let labels = HashMap::from([
        (UNIT.to_owned(), wanted.unit.clone()),
        (INCARNATION.to_owned(), wanted.incarnation.clone()),
        (OWNER.to_owned(), std::process::id().to_string()),
        (SCOPE.to_owned(), scope()),
    ]);
    ContainerCreateBody {
        image: Some(wanted.image.clone()),
        hostname: Some(wanted.outside.hostname.clone()),
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![
            format!("{FOLDER}/shim"),
            "--bootstrap".to_owned(),
            format!("{FOLDER}/bootstrap"),
        ]),
        cmd: Some(Vec::new()),
        working_dir: Some("/".to_owned()),
        // Podman kills at once where nobody says how long it is to wait.
        stop_timeout: Some(i64::try_from((wanted.grace + STOP_MORE).as_secs()).unwrap_or(i64::MAX)),
        labels: Some(labels),
        host_config: Some(host_config(wanted)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(wanted: &Specification) -> HostConfig {
    let outside = &wanted.outside;
    let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let ceiling = outside.ceiling;
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let log = HashMap::from([("max-size".to_owned(), LOG_SIZE.to_owned())]);
    HostConfig {
        mounts: Some(mounts(wanted)),
        tmpfs: Some(outside.memory.iter().map(memory).collect()),
        shm_size: Some(signed(outside.shm_size)),
        masked_paths: Some(strings(&outside.masked)),
        readonly_paths: Some(strings(&outside.read_only)),
        network_mode: Some(if outside.host_network { "host" } else { "none" }.to_owned()),
        sysctls: ipv6(outside),
        cap_drop: Some(strings(&["ALL"])),
        cap_add: Some(outside.capabilities.clone()),
        // The shim brings the fhs rung's filter, and puts it on before the tool starts.
        security_opt: Some(security(outside)),
        devices: Some(outside.devices.iter().map(|(host, at)| device(host.as_str(), at.as_str())).collect()),
        ulimits: Some(outside.limits.iter().filter_map(ulimit).collect()),
        memory: ceiling.memory.map(signed),
        // Together with swap: none of it.
        memory_swap: ceiling.memory.map(signed),
        pids_limit: ceiling.tasks.map(|tasks| signed(tasks.saturating_add(SHIMS))),
        cpu_period: ceiling.cpu_us.map(|_| CPU_PERIOD_US),
        cpu_quota: ceiling.cpu_us.map(signed),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // An engine that comes back removes such containers even while they run and it is to leave them alone (20.10).
        auto_remove: Some(false),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
        ..HostConfig::default()
    }
}

/// The engine's profile of AppArmor forbids mounts, of which systemd makes some in namespaces of the container's own.
fn security(outside: &Outside) -> Vec<String> {
    let mut options = vec!["no-new-privileges:true", "seccomp=unconfined"];
    options.extend(outside.remapped.then_some("apparmor=unconfined"));
    options.into_iter().map(str::to_owned).collect()
}

/// Docker switches IPv6 off in a network of its own, even `::1`. A host without it has no such setting.
fn ipv6(outside: &Outside) -> Option<HashMap<String, String>> {
    let has = std::path::Path::new("/proc/sys/net/ipv6/conf/lo").exists();
    let settings = ["net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.lo.disable_ipv6"];
    (has && !outside.host_network)
        .then(|| settings.into_iter().map(|name| (name.to_owned(), "0".to_owned())).collect())
}

fn mounts(wanted: &Specification) -> Vec<Mount> {
    let own = [
        (&wanted.shim, "shim", true),
        (&wanted.bootstrap, "bootstrap", true),
        (&wanted.lease, "lease", false),
    ];
    let own = own.map(|(host, name, read_only)| {
        mount(&host.display().to_string(), &format!("{FOLDER}/{name}"), read_only)
    });
    let bound = wanted.outside.bound.iter();
    own.into_iter()
        .chain(bound.map(|bound| mount(bound.host.as_str(), bound.at.as_str(), bound.read_only)))
        .collect()
}

fn mount(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn memory((at, mode, size): &(hatchway_envs::sandbox::InsidePath, u32, u64)) -> (String, String) {
    let options = format!("rw,exec,nosuid,nodev,mode={mode:o},size={size}");
    (at.as_str().to_owned(), options)
}

fn device(host: &str, at: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(at.to_owned()),
        cgroup_permissions: Some("rw".to_owned()),
    }
}

/// The names are those of setrlimit(2) in small letters.
fn ulimit(limit: &ResourceLimit) -> Option<ResourcesUlimits> {
    let name = match limit.resource {
        Resource::RealtimePriority => "rtprio",
        Resource::LockedMemory => "memlock",
        _ => return None,
    };
    // The engine takes -1 for "no limit".
    let value = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1));
    Some(ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(value(limit.soft)),
        hard: Some(value(limit.hard)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchway_envs::sandbox::{Bound, Ceiling, HostPath, InsidePath};

    fn specification() -> Specification {
        let inside = |path: &str| InsidePath::new(path).unwrap();
        let host = |path: &str| HostPath::new(path).unwrap();
        Specification {
            unit: "acme".into(),
            incarnation: "1-2".into(),
            image: "sha256:0".into(),
            shim: "/opt/shim".into(),
            bootstrap: "/run/unit/bootstrap.json".into(),
            lease: "/run/unit/lease".into(),
            grace: Duration::from_secs(5),
            outside: Outside {
                hostname: "acme".into(),
                bound: vec![Bound { host: host("/state"), at: inside("/var/lib/acme"), read_only: false }],
                devices: vec![(host("/dev/comedi0"), inside("/dev/comedi0"))],
                memory: vec![(inside("/tmp"), 0o1777, 4096)],
                capabilities: vec!["CAP_KILL".into()],
                limits: vec![ResourceLimit {
                    resource: Resource::RealtimePriority,
                    soft: Some(50),
                    hard: Some(50),
                }],
                ceiling: Ceiling { memory: Some(1 << 30), tasks: Some(10), cpu_us: Some(50_000) },
                ..Outside::default()
            },
        }
    }

    #[test]
    fn everything_that_is_not_asked_for_is_taken_away() {
        let config = host_config(&specification());
        assert_eq!(config.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(config.cap_add, Some(vec!["CAP_KILL".to_owned()]));
        assert_eq!(config.network_mode.as_deref(), Some("none"));
        assert_eq!(config.privileged, None);
        assert!(config.security_opt.unwrap().contains(&"no-new-privileges:true".to_owned()));
        assert_eq!(config.tmpfs.unwrap()["/tmp"], "rw,exec,nosuid,nodev,mode=1777,size=4096");
    }

    #[test]
    fn a_docker_with_users_of_its_own_names_them_in_its_folder() {
        assert_eq!(root_of("/var/lib/docker/100000.200000"), Some((100_000, 200_000)));
        for other in ["/var/lib/docker", "/srv/a.b", ""] {
            assert_eq!(root_of(other), None);
        }
    }

    // A maker in another process namespace had its container removed between making and starting it.
    #[test]
    fn only_the_own_namespaces_processes_are_judged_by_their_numbers() {
        let labels = |scope: &str, owner: &str| {
            HashMap::from([(SCOPE.to_owned(), scope.to_owned()), (OWNER.to_owned(), owner.to_owned())])
        };
        let (alive, dead) = (|_| true, |_| false);
        assert!(!is_left(&labels("boot/1", "7"), "boot/1", 9999, alive));
        assert!(is_left(&labels("boot/1", "7"), "boot/1", 0, dead));
        assert!(is_left(&labels("boot/1", "?"), "boot/1", 0, alive));
        for other in ["boot/2", "other/1", ""] {
            assert!(!is_left(&labels(other, "7"), "boot/1", FOREIGN_AGE_S - 1, dead), "{other}");
            assert!(is_left(&labels(other, "7"), "boot/1", FOREIGN_AGE_S, alive), "{other}");
        }
        // Where this process cannot tell its own namespace, and of a version without the label.
        assert!(!is_left(&labels("", "7"), "", 0, dead));
        assert!(!is_left(&HashMap::from([(OWNER.to_owned(), "7".to_owned())]), "boot/1", 0, dead));
        assert!(
            scope()
                .split_once('/')
                .is_some_and(|(boot, namespace)| boot.len() == 36 && !namespace.is_empty())
        );
    }

    #[test]
    fn limits_are_those_of_the_unit() {
        let config = host_config(&specification());
        assert_eq!((config.memory, config.memory_swap), (Some(1 << 30), Some(1 << 30)));
        // The tool's ten and the shim's two.
        assert_eq!(config.pids_limit, Some(12));
        assert_eq!((config.cpu_quota, config.cpu_period), (Some(50_000), Some(100_000)));
        let limit = &config.ulimits.unwrap()[0];
        assert_eq!((limit.name.as_deref(), limit.soft, limit.hard), (Some("rtprio"), Some(50), Some(50)));
    }

    #[test]
    fn the_shim_comes_first_and_cannot_be_written() {
        let mounts = mounts(&specification());
        let shown = mounts.iter().map(|mount| (mount.target.as_deref().unwrap(), mount.read_only.unwrap()));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ("/.hatchway/shim", true),
                ("/.hatchway/bootstrap", true),
                ("/.hatchway/lease", false),
                ("/var/lib/acme", false)
            ]
        );
        let body = body(&specification());
        assert_eq!(body.entrypoint.unwrap(), ["/.hatchway/shim", "--bootstrap", "/.hatchway/bootstrap"]);
        assert_eq!(body.stop_timeout, Some(10));
        assert_eq!(body.labels.unwrap()[OWNER], std::process::id().to_string());
    }
}
