//! What of the machine a recipe asks for: network, display, sound, devices, driver. Nothing is planned for what it does
//! not ask for.
use super::{Error, driver, invalid};
use crate::sandbox::spec::{Network, Spec};
use hatchway_wire::op::INTERFACE_INDEX;
use hatchway_wire::{Door, Endpoint, HostPath, InsidePath, Op, Owner, Transport};

/// The name of the host's resolver configuration, which may be a symlink and may be replaced at any time.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where the copy is that the shim keeps as the host's is.
const RESOLV_FOLDER: &str = "/run/hatchway/resolv";
/// Capabilities that a recipe may ask for. Every other one is as good as root, or has no use in a sandbox.
const CAPABILITIES: [&str; 6] = [
    "CAP_IPC_LOCK",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_NICE",
    "CAP_WAKE_ALARM",
];
/// Where programs look for interfaces.
const SYS_NET: &str = "/sys/class/net";
/// Room for a few dozen files of one page.
const SYS_NET_BYTES: u64 = 1 << 20;
/// As long as the kernel lets an interface's name be.
const INTERFACE_NAME_MAX: usize = 15;

pub(super) fn check(spec: &Spec) -> Result<(), Error> {
    for name in &spec.capabilities {
        if !CAPABILITIES.contains(&name.as_str()) {
            let why = "a tool may have CAP_IPC_LOCK, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_NICE \
                       or CAP_WAKE_ALARM";
            return Err(invalid("capability", name, why));
        }
        if spec.network == Network::Host && ["CAP_NET_ADMIN", "CAP_NET_RAW"].contains(&name.as_str()) {
            let why = "with `network = \"host\"` it would reach the host's own interfaces";
            return Err(invalid("capability", name, why));
        }
    }
    if let Some(interface) = &spec.interface {
        let name = &interface.name;
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        let dots = name.bytes().all(|c| c == b'.');
        if name.len() > INTERFACE_NAME_MAX || name == "lo" || dots || !name.bytes().all(plain) {
            return Err(invalid("interface", name, "a name has 1 to 15 letters, digits, `-`, `_` and `.`"));
        }
        if interface.mac[0] & 1 == 1 || interface.mac == [0; 6] {
            return Err(invalid("mac", format!("{:02x?}", interface.mac), "no single interface has it"));
        }
        if spec.network == Network::Host {
            let why = "an interface of its own needs a network of its own: `network` must not be \"host\"";
            return Err(invalid("interface", name, why));
        }
    }
    for slot in &spec.slots {
        free_in_dev(&slot.at)?;
    }
    channels(spec)
}

/// Doors of channels are where nothing else is, and a port needs a network of its own.
fn channels(spec: &Spec) -> Result<(), Error> {
    for (number, channel) in spec.channels.iter().enumerate() {
        let name = channel.name.as_str();
        match &channel.door {
            Door::Line { at, .. } => {
                free_in_dev(at)?;
                if spec.slots.iter().any(|slot| slot.at == *at) {
                    return Err(invalid("channel", name, "a device is at the same place"));
                }
            }
            Door::Port { .. } => match spec.network {
                Network::Loopback | Network::Allow(_) => {}
                Network::None => {
                    return Err(invalid("channel", name, "a port needs `network = \"loopback\"`"));
                }
                Network::Host => {
                    let why = "with `network = \"host\"` the tool reaches the server itself";
                    return Err(invalid("channel", name, why));
                }
            },
        }
        if channel.to.transport != Transport::Tcp {
            return Err(invalid("channel", name, "it leads to a server that takes connections, `tcp:`"));
        }
        if spec.channels[..number].iter().any(|other| other.door == channel.door) {
            return Err(invalid("channel", name, "another channel is at the same place"));
        }
        let relayed = |to: &Endpoint| matches!(&channel.door, Door::Port { at } if *to == Endpoint::tcp(*at));
        if matches!(&spec.network, Network::Allow(to) if to.iter().any(relayed)) {
            return Err(invalid("channel", name, "`network` allows a server at the same address"));
        }
    }
    Ok(())
}

fn free_in_dev(at: &InsidePath) -> Result<(), Error> {
    let dev = InsidePath::new("/dev")?;
    let own = ["/dev/pts", "/dev/shm"].iter().filter_map(|path| InsidePath::new(path).ok());
    let base =
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr"];
    let is_base = at.parent() == Some(dev.clone()) && at.name().is_some_and(|n| base.contains(&n));
    if !at.is_within(&dev) || *at == dev || is_base || own.into_iter().any(|o| at.is_within(&o)) {
        return Err(invalid("device path", at.as_str(), "it is not a free name below `/dev`"));
    }
    Ok(())
}

/// The doors of channels, once there are pseudo terminals and a network.
pub(in crate::sandbox) fn doors(spec: &Spec, ops: &mut Vec<Op>) {
    if !spec.channels.is_empty() {
        ops.push(Op::Channels { channels: spec.channels.clone() });
    }
}

/// The interfaces of the new network namespace.
pub(super) fn network(spec: &Spec, ops: &mut Vec<Op>) {
    if matches!(spec.network, Network::Loopback | Network::Allow(_)) {
        ops.push(Op::Loopback);
    }
    if let Some(interface) = &spec.interface {
        ops.push(Op::Interface { name: interface.name.clone(), mac: interface.mac });
    }
    if let Network::Allow(to) = &spec.network {
        ops.push(Op::Relay { to: to.clone() });
    }
}

/// The interfaces as `/sys` shows them: many programs read the address there and not from the kernel. The real folder
/// would be that of the network namespace in which `/sys` was mounted, the host's.
pub(super) fn interfaces_in_sys(spec: &Spec, owner: Owner, ops: &mut Vec<Op>) -> Result<(), Error> {
    let Some(interface) = &spec.interface else { return Ok(()) };
    let folder = InsidePath::new(SYS_NET)?;
    ops.push(Op::Tmpfs { at: folder.clone(), mode: 0o755, size: SYS_NET_BYTES, owner });
    let mut show = |name: &str, values: [(&str, String); 11]| -> Result<(), Error> {
        for (file, value) in values {
            let at = InsidePath::new(format!("{SYS_NET}/{name}/{file}"))?;
            ops.push(Op::File { at, mode: 0o444, content: format!("{value}\n") });
        }
        Ok(())
    };
    let hex = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    // Numbers and words as the kernel writes them (Documentation/ABI/testing/sysfs-class-net, linux/if_arp.h).
    let values = |mac: [u8; 6], all: [u8; 6], index: u32, kind: u32, mtu: u32, flags: u32, state: &str| {
        [
            ("address", hex(mac)),
            ("broadcast", hex(all)),
            ("addr_len", "6".to_owned()),
            ("addr_assign_type", "0".to_owned()),
            ("ifindex", index.to_string()),
            ("iflink", index.to_string()),
            ("type", kind.to_string()),
            ("mtu", mtu.to_string()),
            ("flags", format!("{flags:#x}")),
            ("operstate", state.to_owned()),
            ("carrier", "1".to_owned()),
        ]
    };
    show("lo", values([0; 6], [0; 6], 1, 772, 65536, 0x9, "unknown"))?;
    let card = values(interface.mac, [0xff; 6], INTERFACE_INDEX, 1, 1500, 0x1003, "up");
    show(&interface.name, card)?;
    ops.push(Op::ReadOnly { at: folder });
    Ok(())
}

/// What comes last, when everything it lies in is there.
pub(super) fn late(spec: &Spec, owner: Owner, ops: &mut Vec<Op>) -> Result<(), Error> {
    for secret in &spec.secrets {
        ops.push(Op::Secret { at: secret.at.clone(), owner, content: secret.content.clone() });
    }
    driver::bind(spec, ops);
    doors(spec, ops);
    if spec.network == Network::Host {
        ops.push(Op::Follow {
            source: HostPath::new(RESOLV_CONF)?,
            folder: InsidePath::new(RESOLV_FOLDER)?,
            at: InsidePath::new(RESOLV_CONF)?,
        });
    }
    Ok(())
}
