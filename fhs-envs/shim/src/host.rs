//! What to tell a person when this host does not allow what the plan needs.

/// Why namespaces cannot be made, with what changes it.
pub(crate) fn namespace_hint() -> String {
    let obstacles = hatchway_sys::user_namespace::obstacles();
    if obstacles.is_empty() {
        return "`hatchway doctor` tests what this host allows".to_owned();
    }
    let lines: Vec<String> =
        obstacles.iter().map(|found| format!("{}; to change it: {}", found.explanation, found.fix)).collect();
    lines.join("\nhint: ")
}
