//! The plan for a unit in a guest of ours: the plan of the fhs rung, with the paths of the guest.
//!
//! Inside the guest the shim makes the same sandbox from the same operations, so a tool finds the same on both rungs. What
//! the host had to give (tree, state, files) comes as disks and copies, and is at places of its own there.

use super::plan::{self, invalid};
use super::spec::{BoundFile, Device, Network, Spec, StateDir};
use super::{Error, HostFacts, Mode};
use hatchway_wire::guest::{CONTROL_GROUP, EXIT, FILES, STATE, TREE};
use hatchway_wire::{Bootstrap, HostPath, InsidePath, Transport};

/// What makes a guest's unit.
#[derive(Debug, Clone)]
pub struct Guest {
    /// For the shim in the guest.
    pub bootstrap: Bootstrap,
    /// Files of the host to copy into it, by number.
    pub files: Vec<HostPath>,
    /// Folders of state, by their names on the disk.
    pub state: Vec<String>,
    /// The guest reaches the host's network by way of QEMU.
    pub network: bool,
    /// A device of the guest that must be there, and who may open it is the tool.
    pub devices: Vec<InsidePath>,
    /// Modules of the guest's kernel that the plan takes.
    pub modules: Vec<&'static str>,
}

/// What the guest has beside what the spec says.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Version of Landlock in the guest's kernel.
    pub landlock: u32,
    /// Device nodes of the guest: its own name, and where the tool expects it.
    pub devices: Vec<(HostPath, InsidePath)>,
    /// The unit has limits, and so a control group of its own.
    pub limited: bool,
}

/// Says that the unit has channels. The guest's init opens their way, and knows its number.
const CHANNELS_FD: i32 = 3;
/// Why something is refused here.
pub(super) const ONLY_NAMESPACES: &str = "a guest has no part in it; the fhs rung gives it";

/// Plans a guest's unit.
///
/// # Errors
/// What is not acceptable on any rung, and what a guest cannot have.
pub fn plan_guest(spec: &Spec, host: &HostFacts, given: &Given) -> Result<Guest, Error> {
    plan::check_values(spec, host)?;
    refuse(spec)?;
    let mut inner = Spec {
        mode: Mode::Root { groups: plan::services::groups(spec) },
        tree: HostPath::new(TREE)?,
        exit_file: Some(HostPath::new(EXIT)?),
        devices: Vec::new(),
        control_group: given.limited.then(|| HostPath::new(CONTROL_GROUP)).transpose()?,
        ..spec.clone()
    };
    let mut names = Vec::new();
    for state in &mut inner.state {
        let name = state.host.name().unwrap_or_default().to_owned();
        *state = StateDir { host: HostPath::new(STATE)?.join(&name)?, at: state.at.clone() };
        names.push(name);
    }
    let files = inner.files.iter().map(|file| file.host.clone()).collect();
    for (number, file) in inner.files.iter_mut().enumerate() {
        *file = BoundFile { host: HostPath::new(FILES)?.join(&number.to_string())?, at: file.at.clone() };
    }
    let mut devices = Vec::new();
    for (own, at) in &given.devices {
        inner.devices.push(Device { host: own.clone(), at: at.clone() });
        devices.push(InsidePath::new(own.as_str())?);
    }
    // The facts of the guest: its kernel is Debian's, and the shim is root in it.
    let facts = HostFacts {
        uid: 0,
        gid: 0,
        overlay: true,
        term: host.term.clone(),
        own: Vec::new(),
        landlock: given.landlock,
    };
    let network = spec.network == Network::Host;
    // `libcrc32c` takes it without saying so in what it depends on.
    let mut modules = vec!["crc32c_generic", "erofs", "overlay"];
    modules.extend((!names.is_empty()).then_some("ext4"));
    modules.extend(network.then_some("virtio_net"));
    modules.extend(spec.interface.is_some().then_some("dummy"));
    let mut bootstrap = plan::plan_unit(&inner, &facts)?;
    if !bootstrap.destinations().is_empty() {
        bootstrap.channels_fd = Some(CHANNELS_FD);
    }
    Ok(Guest { bootstrap, files, state: names, network, devices, modules })
}

/// What a guest cannot have is refused, not left out.
fn refuse(spec: &Spec) -> Result<(), Error> {
    let no = |what, value: String| Err(invalid(what, value, ONLY_NAMESPACES));
    if let Some(share) = spec.shares.first() {
        return no("share", share.host.to_string());
    }
    if let Some(slot) = spec.slots.first() {
        return no("device", slot.device.to_string());
    }
    if let Some(device) = spec.devices.first() {
        return no("device", device.host.to_string());
    }
    if let Some(file) = spec.driver.files.first() {
        return no("the host's graphics driver", file.host.to_string());
    }
    if let Some(socket) = spec.sockets.first() {
        return no("socket", socket.host.to_string());
    }
    if let Some(companion) = spec.companions.first() {
        return no("companion", companion.role.clone());
    }
    if let Network::Allow(to) = &spec.network
        && let Some(to) = to.iter().find(|to| to.transport == Transport::Udp)
    {
        return no("network", format!("allow {to}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Share, User};
    use super::*;
    use hatchway_wire::Op;

    fn spec() -> Spec {
        let user = User::new("tool", 1000, 1000).unwrap();
        let tree = HostPath::new("/store/trees/1").unwrap();
        Spec::new("acme", tree, "/usr/bin/acme", user, Mode::User)
    }

    fn planned(spec: &Spec) -> Result<Guest, Error> {
        let facts = HostFacts { uid: 1000, gid: 1000, ..HostFacts::detect(Vec::new()) };
        plan_guest(spec, &facts, &Given { landlock: 2, ..Given::default() })
    }

    #[test]
    fn a_tool_is_planned_as_roots_unit_over_the_guests_tree() {
        let guest = planned(&spec()).unwrap();
        let tree = |op: &Op| matches!(op, Op::OverlayRoot { tree, .. } if tree.as_str() == TREE);
        assert!(guest.bootstrap.ops.iter().any(tree), "{:?}", guest.bootstrap.ops);
        assert!(!guest.bootstrap.ops.iter().any(|op| matches!(op, Op::IdMap { .. })));
        assert_eq!(guest.bootstrap.exit_file.unwrap().as_str(), EXIT);
        assert!(!guest.network && guest.state.is_empty());
        assert_eq!(guest.bootstrap.process.uid, 1000);
    }

    #[test]
    fn state_and_files_are_at_the_guests_places() {
        let mut spec = spec();
        let host = |path: &str| HostPath::new(path).unwrap();
        let inside = |path: &str| InsidePath::new(path).unwrap();
        spec.state.push(StateDir { host: host("/data/state/acme/var-1"), at: inside("/var/acme") });
        spec.files.push(BoundFile { host: host("/srv/licence"), at: inside("/etc/acme.lic") });
        let guest = planned(&spec).unwrap();
        let bound: Vec<(String, String)> = guest
            .bootstrap
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Bind { source, at, .. } => Some((source.to_string(), at.to_string())),
                _ => None,
            })
            .collect();
        for pair in [("/hatchway/state/var-1", "/var/acme"), ("/hatchway/files/0", "/etc/acme.lic")] {
            assert!(bound.contains(&(pair.0.to_owned(), pair.1.to_owned())), "{bound:?}");
        }
        assert_eq!(guest.files, [host("/srv/licence")]);
        assert_eq!(guest.state, ["var-1"]);
    }

    #[test]
    fn the_hosts_own_things_are_refused() {
        let mut spec = spec();
        let (host, at) = (HostPath::new("/data").unwrap(), InsidePath::new("/data").unwrap());
        spec.shares.push(Share { host, at, read_only: true });
        let error = planned(&spec).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        spec.shares.clear();
        spec.network = Network::Allow(vec!["udp:10.0.0.5:1".parse().unwrap()]);
        assert!(planned(&spec).unwrap_err().hint().is_some());
        // Servers are reached by way of `hatchway run`, and by no card.
        spec.network = Network::Allow(vec!["127.0.0.1:1".parse().unwrap()]);
        let guest = planned(&spec).unwrap();
        assert!(!guest.network && !guest.modules.contains(&"virtio_net"));
        assert_eq!((guest.bootstrap.channels_fd, guest.bootstrap.destinations().len()), (Some(3), 1));
    }

    #[test]
    fn services_are_a_guests_alone() {
        let mut spec = spec();
        spec.services = vec!["acmed.service".to_owned(), "acme.socket".to_owned()];
        spec.tree_groups = "systemd-journal:x:101:\n".to_owned();
        let guest = planned(&spec).unwrap();
        let files: Vec<String> = guest
            .bootstrap
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::File { at, content, .. } => Some(format!("{at}\n{content}")),
                _ => None,
            })
            .collect();
        let has =
            |path: &str, text: &str| files.iter().any(|file| file.starts_with(path) && file.contains(text));
        assert!(has("/run/systemd/system/hatchway.target", "Wants=acmed.service acme.socket\n"), "{files:?}");
        assert!(has("/run/systemd/system/acmed.service.d/hatchway.conf", "StandardOutput=append:/run/"));
        assert!(!has("/run/systemd/system/acme.socket.d/", ""));
        assert_eq!(guest.bootstrap.process.groups, Some(vec![101]));
        assert_eq!(guest.bootstrap.services.unwrap().names, spec.services);
        let facts = HostFacts { uid: 1000, gid: 1000, ..HostFacts::detect(Vec::new()) };
        assert!(plan::plan(&spec, &facts).unwrap_err().to_string().contains("acmed.service"));
        spec.services.push("../x.service".to_owned());
        assert!(planned(&spec).is_err());
    }
}
