//! A plan for people, a line an operation, and for programs.
use hatchway_wire::bootstrap::{Bootstrap, Resource};
use hatchway_wire::{Op, Process};
use serde_json::{Map, Value, json};
use std::fmt;

/// Names the form of [`explained_json`]; raised when a key goes or changes its meaning.
const SCHEMA: u32 = 1;

/// A plan as `--explain` prints it: one line per operation.
#[derive(Debug)]
pub struct Explained<'a>(pub &'a Bootstrap);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for companion in &self.0.companions {
            line(
                f,
                format_args!("start {} in a sandbox of its own: `{}`", companion.role, companion.command),
            )?;
        }
        for op in &self.0.ops {
            line(f, format_args!("{op}"))?;
        }
        if let Some(services) = &self.0.services {
            line(f, format_args!("start systemd with `{}`, and wait for them", services.names.join("` `")))?;
        }
        let process = &self.0.process;
        line(f, format_args!("become user {} and group {}", process.uid, process.gid))?;
        match process.capabilities.as_slice() {
            [] => line(f, format_args!("drop every capability"))?,
            kept => line(f, format_args!("drop every capability but {}", kept.join(" ")))?,
        }
        for limit in process.limits.iter().filter(|limit| limit.resource != Resource::Core) {
            let value = limit.soft.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            line(f, format_args!("limit {} to {value}", limit.resource))?;
        }
        if let Some(fence) = &process.fence {
            line(f, format_args!("allow by Landlock: {fence}"))?;
        }
        line(f, format_args!("filter system calls ({} instructions)", process.seccomp.len()))?;
        if let Some(health) = &self.0.health {
            let command: Vec<&str> =
                [&health.program].into_iter().chain(&health.args).map(String::as_str).collect();
            let (every, failures) = (health.every_ms, health.failures);
            line(
                f,
                format_args!(
                    "look every {every} ms whether it is well: `{}`; {failures} failures are too many",
                    command.join(" ")
                ),
            )?;
        }
        if let Some(ready) = &self.0.ready {
            line(f, format_args!("count it as ready by {ready}"))?;
        }
        for note in &self.0.notes {
            line(f, format_args!("note: {note}"))?;
        }
        for (name, value) in &process.env {
            line(f, format_args!("set {name}={value}"))?;
        }
        let command: Vec<String> =
            [&process.program].into_iter().chain(&process.args).map(|word| format!("`{word}`")).collect();
        write!(f, "{}", printable(&format!("execute {} in `{}`", command.join(" "), process.cwd)))
    }
}

/// Names may be a vendor's or a recipe's: none of them breaks a line or steers the terminal.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

fn line(f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "{}", printable(&text.to_string()))
}

/// A plan as `--explain --json` prints it. An operation is an object: its name, what its line of `--explain` says, and its
/// own fields beside them. The instructions of the system call filter are counted, and secrets are left out.
#[must_use]
pub fn explained_json(plan: &Bootstrap) -> Value {
    json!({
        "schema": SCHEMA,
        "unit": plan.unit,
        "companions": plan.companions.iter().map(|companion| {
            json!({ "role": companion.role, "command": companion.command })
        }).collect::<Vec<_>>(),
        "operations": plan.ops.iter().map(operation).collect::<Vec<_>>(),
        "services": plan.services.as_ref().map_or(&[][..], |services| &services.names[..]),
        "health": plan.health,
        "ready": plan.ready,
        "process": process(&plan.process),
        "exit_file": plan.exit_file,
        "grace_ms": plan.grace_ms,
        "stop_signal": plan.stop_signal,
        "notes": plan.notes,
    })
}

fn operation(op: &Op) -> Value {
    let mut object = Map::new();
    // A variant without fields is a string, any other an object with its name as the only key.
    let (name, fields) = match json!(op) {
        Value::Object(named) => named.into_iter().next().unwrap_or_default(),
        Value::String(name) => (name, Value::Null),
        _ => (String::new(), Value::Null),
    };
    object.insert("operation".to_owned(), name.into());
    object.insert("text".to_owned(), op.to_string().into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    if matches!(op, Op::Secret { .. }) {
        object.remove("content");
    }
    object.into()
}

fn process(process: &Process) -> Value {
    let mut value = json!(process);
    value["seccomp"] = json!({ "instructions": process.seccomp.len() });
    value
}
