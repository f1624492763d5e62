//! Ends that Hatchway itself knows of, and what is said where nothing is known.

use super::{Kind, Signature, kind, words};
use crate::causes::pattern::Want;

pub(super) const KINDS: &[Kind] = &[
    kind(
        "ended-well",
        "it ended by itself with code 0, and nothing it said is an error",
        "It ended by itself, well.",
        "A tool that does its work and ends; `restart = \"always\"` in [service] starts such a one again.",
        &["`hatchway logs {unit} -n 50` shows what it said"],
    ),
    kind(
        "unknown",
        "nothing that is known fits what it said last: {}",
        "Nothing that is known fits. Its last lines and its code are all there is.",
        "A fault that only the vendor knows the words of.",
        &[
            "`hatchway logs {unit} -n 50` shows what it said before",
            "the vendor wants these lines, its version and its exit code",
        ],
    ),
    kind(
        "asked-to-end",
        "it was asked to end ({}), and did",
        "It was asked to end, and did.",
        "Somebody stopped it, or the machine went down; `hatchway events` says who asked the daemon.",
        &[
            "`hatchway events {unit}` says who asked",
            "`hatchway run --detach {unit}` or `hatchway start {unit}` starts it again",
        ],
    ),
    kind(
        "did-not-end-in-time",
        "it did not end within its grace time after {}, and was killed",
        "It was asked to end, did not within its grace time, and was killed.",
        "A tool that saves much, hangs, or does not listen to the signal.",
        &[
            "`stop = { signal = \"…\", grace = \"…\" }` in [service] of the recipe: another signal, or more time",
        ],
    ),
    kind(
        "killed",
        "{} ended it, which neither Hatchway nor the tool's own limit sent",
        "A signal from outside ended it.",
        "Somebody on this machine, a script, or the kernel for want of memory on the whole machine.",
        &[
            "`dmesg | grep -i -e oom -e killed` says whether it was the kernel",
            "`journalctl --since -10min` says who was logged in",
        ],
    ),
    kind(
        "log-full",
        "its log was full, and its recipe has `full = \"stop\"`",
        "Its log was full, and its recipe ends it then.",
        "A tool that says more than its log keeps.",
        &["`logs = { size = \"…\" }` in [service] of the recipe, or `full = \"drop-oldest\"`"],
    ),
    kind(
        "keeper-lost",
        "what ran it was gone without a word ({})",
        "What runs the tool beside it was killed, and the tool with it.",
        "`hatchway kill`, somebody's `kill -9`, or the kernel for want of memory on the whole machine.",
        &[
            "`dmesg | grep -i -e oom -e killed` says whether it was the kernel",
            "`hatchway events {unit}` says whether somebody asked for it",
        ],
    ),
    kind(
        "gone-without-record",
        "it is gone, and nobody was left to write down why",
        "It is gone without a record.",
        "The machine went down, or the recorder was killed.",
        &[
            "`last -x | head` shows whether the machine went down",
            "`hatchway run --detach {unit}` or `hatchway start {unit}` starts it again",
        ],
    ),
    kind(
        "engine-failed",
        "the engine ended it: {}",
        "The engine of containers or virtual machines ended it, or lost it.",
        "The engine was restarted, or its daemon is down.",
        &[
            "`journalctl --unit docker --since -10min` on the machine says what the engine did",
            "`hatchway doctor` looks at the engine",
        ],
    ),
    kind(
        "sandbox-failed",
        "its sandbox could not be made: {}",
        "Its sandbox could not be made.",
        "The machine lacks something that the recipe asks for.",
        &[
            "`hatchway doctor` says what this machine lacks",
            "`hatchway run {unit} --explain` shows the steps",
        ],
    ),
    kind(
        "not-started",
        "Hatchway did not start it: {}",
        "Hatchway failed before there was something to run.",
        "A lock that does not fit, a slot that is not bound, an engine that is not there.",
        &["`hatchway doctor` looks at the machine"],
    ),
    kind(
        "slot-not-bound",
        "the slot {} of its recipe is bound to nothing on this machine",
        "A slot of the recipe is bound to nothing on this machine.",
        "A new recipe, or an instrument without `devices.NAME`, `files.NAME` or `channels.NAME`.",
        &[
            "`--bind NAME=…` on the command line, or `devices.…`, `files.…`, `channels.…` of the unit in instrument.toml",
        ],
    ),
    kind(
        "not-ready",
        "it runs, and was not ready in time: {}",
        "It runs, and was not ready in time.",
        "It takes longer than `within`, or `ready` looks for something that it never does.",
        &[
            "`hatchway logs {unit} -n 50` shows what it says",
            "`ready = { …, within = \"…\" }` in [service] of the recipe gives it more time",
        ],
    ),
    kind(
        "ready-elsewhere",
        "it listens at port {}, and its recipe's `ready` looks at another",
        "It listens at another port than its recipe's `ready` looks at.",
        "A setting of the tool that was changed, or a recipe for another version.",
        &["`ready = { tcp = {} }` in [service] of the recipe, or the tool's own setting"],
    ),
    kind(
        "unhealthy",
        "it runs, and its check of health fails",
        "It runs, and its check of health has failed too often in a row.",
        "It hangs, or what it depends on is gone.",
        &["`hatchway logs {unit} -n 50` shows what it says", "`hatchway restart {unit}` starts it anew"],
    ),
    kind(
        "ended-unhealthy",
        "it was not well, and its recipe ends it then: {}",
        "Its check of health failed too often in a row, and its recipe ends it then (`then = \"end\"`).",
        "It hung, what it depends on is gone, or the check is too strict.",
        &[
            "`hatchway logs {unit} -n 50` shows what it said before",
            "`hatchway exec {unit} -- …` with the check's command tries it by hand",
            "`health = { …, timeout = \"…\", failures = … }` in [service] of the recipe has more patience",
        ],
    ),
    kind(
        "dependency-stopped",
        "it waits for `{}`, which nobody has started",
        "It waits for a unit that nobody has started.",
        "`hatchway stop`, or `start = \"manual\"` in the instrument.",
        &["`hatchway start {}` starts it"],
    ),
    kind(
        "dependency-not-ready",
        "it waits for `{}`, which is not ready",
        "It waits for a unit that is not ready.",
        "That one starts just now, or has failed.",
        &["`hatchway why {}` says why that is so"],
    ),
    kind(
        "running",
        "it runs; nothing is the matter that Hatchway knows of",
        "It runs.",
        "Nothing is the matter.",
        &[],
    ),
];

pub(super) const SIGNATURES: &[Signature] = &[
    // Hatchway's own: supervisor/src/launch/devices.rs, channels.rs, identity.rs.
    words("slot-not-bound", 3, Want::Gap, &["slot `{}` is not bound", "the channel `{}` is not bound"]),
    words("slot-not-bound", 8, Want::Gap, &["slot `{}` cannot be bound"]),
];
