//! File capabilities as text.
//!
//! The attribute `security.capability` holds a `vfs_cap_data` or `vfs_ns_cap_data` (linux/capability.h). The text form is that
//! of `getcap`: names, `=`, and the letters of the sets they are in.

/// `VFS_CAP_REVISION_MASK` and `VFS_CAP_FLAGS_EFFECTIVE`.
const REVISION: u32 = 0xff00_0000;
const EFFECTIVE: u32 = 1;

/// Capabilities by number (linux/capability.h, up to `CAP_CHECKPOINT_RESTORE`).
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Reads the attribute's value; `None` if it is not of a known revision.
pub(super) fn read(value: &[u8]) -> Option<String> {
    let word = |index: usize| {
        let bytes = value.get(index * 4..index * 4 + 4)?;
        bytes.try_into().ok().map(u32::from_le_bytes)
    };
    let magic = word(0)?;
    // Revision 1 has one word for each set, 2 and 3 have two, and 3 the user that is root in the name space.
    let (words, root) = match (magic & REVISION) >> 24 {
        1 => (1, None),
        2 => (2, None),
        3 => (2, Some(word(5)?)),
        _ => return None,
    };
    let mut permitted = 0_u64;
    let mut inheritable = 0_u64;
    for index in 0..words {
        permitted |= u64::from(word(1 + 2 * index)?) << (32 * index);
        inheritable |= u64::from(word(2 + 2 * index)?) << (32 * index);
    }
    let mut text = text(permitted, inheritable, magic & EFFECTIVE != 0);
    if let Some(root) = root.filter(|&root| root != 0) {
        text = format!("{text} [rootid={root}]");
    }
    Some(text)
}

fn text(permitted: u64, inheritable: u64, effective: bool) -> String {
    let groups = [(true, true), (false, true), (true, false)].into_iter().filter_map(|(p, i)| {
        let both = if p { permitted } else { !permitted } & if i { inheritable } else { !inheritable };
        let names: Vec<String> = (0..64).filter(|bit| both >> bit & 1 == 1).map(name).collect();
        let sets = [(effective, 'e'), (i, 'i'), (p, 'p')];
        let sets: String = sets.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
        (!names.is_empty()).then(|| format!("{}={sets}", names.join(",")))
    });
    let groups: Vec<String> = groups.collect();
    if groups.is_empty() { "=".to_owned() } else { groups.join(" ") }
}

fn name(bit: usize) -> String {
    // Newer ones go by their number, as `getcap` shows them.
    NAMES.get(bit).map_or_else(|| bit.to_string(), |name| format!("cap_{name}"))
}

/// The text as `rpm` keeps it, which older libraries write with `+` behind an empty set: `= cap_net_raw+ep`.
pub(super) fn normalised(text: &str) -> String {
    let clauses = text.strip_prefix("= ").unwrap_or(text);
    if clauses.contains('=') { clauses.to_owned() } else { clauses.replace('+', "=") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn revisions() {
        let raw = 1 << 13;
        assert_eq!(read(&value(&[0x0100_0001, raw, 0])).as_deref(), Some("cap_net_raw=ep"));
        assert_eq!(
            read(&value(&[0x0200_0001, raw | 1 << 12, 0, 1 << 7, 0])).as_deref(),
            Some("cap_net_admin,cap_net_raw,cap_bpf=ep")
        );
        assert_eq!(
            read(&value(&[0x0300_0000, raw, raw, 0, 0, 1000])).as_deref(),
            Some("cap_net_raw=ip [rootid=1000]")
        );
        assert_eq!(
            read(&value(&[0x0200_0000, 1, 2, 0, 1 << 31])).as_deref(),
            Some("cap_dac_override,63=i cap_chown=p")
        );
        assert_eq!(read(&value(&[0x0200_0000, 0, 0, 0, 0])).as_deref(), Some("="));
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for bad in [&[][..], &[1, 2, 3], &value(&[0x0400_0001, 1, 1, 1, 1]), &value(&[0x0200_0001, 1, 1])] {
            assert_eq!(read(bad), None);
        }
    }

    #[test]
    fn older_text() {
        assert_eq!(normalised("= cap_net_raw+ep"), "cap_net_raw=ep");
        assert_eq!(normalised("cap_net_raw=ep"), "cap_net_raw=ep");
    }
}
