//! Full disks, killed builders, two at once, hosts that forbid.
