//! The system call filter: the table of calls compiled to classic BPF, both architectures of a PC in one program.
//!
//! Our own emitter, since a filter for two architectures is not what the crates for it make. Runs of neighbouring
//! calls with the same verdict become one range, the ranges a binary tree; a call is decided in ten comparisons.
mod table;

use hatchway_wire::Instruction;
use std::str::FromStr;
use syscalls::{x86, x86_64};
use table::{Check, ENOSYS, EPERM};

const LOAD: u16 = 0x20; // A := 32 bits of the call's description
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
/// Set in the number of a call made the x32 way, on the same architecture value as x86-64.
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Error(u16),
    Check(Check),
}

/// The filter every tool gets. With `i386` the environment has libraries for 32-bit programs: those make all their sockets
/// through `socketcall` (glibc does as long as it supports kernels before 4.3), of which a filter cannot see the address
/// family. So there the rule about families holds for 64-bit code only.
#[must_use]
pub fn filter(i386: bool) -> Vec<Instruction> {
    program(if i386 { &[("socketcall", Verdict::Allow)] } else { &[] }, true)
}

/// The filter of build sandboxes: also, a change of a file's owner succeeds and does nothing. Only one user exists in
/// there, and a tree's files have no owner but root. `i386` as in [`filter`]; a step has no network in any family.
#[must_use]
pub fn build_filter(i386: bool) -> Vec<Instruction> {
    let owners = ["chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32"];
    let owners = owners.map(|name| (name, Verdict::Error(0)));
    let sockets = i386.then_some(("socketcall", Verdict::Allow));
    program(&owners.into_iter().chain(sockets).collect::<Vec<_>>(), true)
}

/// The filter of programs of the host that serve a tool: 64-bit code alone, without what only tools have a use for, and
/// without sockets that lead to a network unless `network` is theirs.
#[must_use]
pub fn companion_filter(network: bool) -> Vec<Instruction> {
    let values = if network { table::COMPANION_NETWORK } else { table::COMPANION_LOCAL };
    let sockets = Verdict::Check(Check::OneOf { argument: 0, values, otherwise: table::EAFNOSUPPORT });
    let refused = table::COMPANION_REFUSED.iter().flat_map(|(_, names)| *names);
    let refused = refused.map(|name| (*name, Verdict::Error(EPERM)));
    let changes: Vec<_> = refused.chain([("socket", sockets), ("socketpair", sockets)]).collect();
    program(&changes, false)
}

/// The table's program with these changes; without `narrow`, 32-bit code is ended.
fn program(changes: &[(&str, Verdict)], narrow: bool) -> Vec<Instruction> {
    let number = |name: &str| x86_64::Sysno::from_str(name).ok().map(|call| call as usize);
    let wide = tree(&ranges(&verdicts(number, changes)));
    let mut program = vec![load(ARCHITECTURE)];
    let mut wide_half = vec![load(NUMBER)];
    branch(&mut wide_half, IF_AT_LEAST, X32, &error(ENOSYS), &wide);
    let kill = [Instruction(RETURN, 0, 0, KILL)];
    let mut other = Vec::new();
    if narrow {
        let number = |name: &str| x86::Sysno::from_str(name).ok().map(|call| call as usize);
        let mut narrow_half = vec![load(NUMBER)];
        narrow_half.extend(tree(&ranges(&verdicts(number, changes))));
        branch(&mut other, IF_EQUAL, I386, &narrow_half, &kill);
    } else {
        other.extend(kill);
    }
    branch(&mut program, IF_EQUAL, X86_64, &wide_half, &other);
    program
}

/// One verdict per number, `ENOSYS` where the table is silent.
fn verdicts(number: impl Fn(&str) -> Option<usize>, changes: &[(&str, Verdict)]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut set = |name: &str, verdict| {
        if let Some(number) = number(name) {
            if verdicts.len() <= number {
                verdicts.resize(number + 1, Verdict::Error(ENOSYS));
            }
            verdicts[number] = verdict;
        }
    };
    for name in table::ALLOWED.iter().flat_map(|(_, names)| *names) {
        set(name, Verdict::Allow);
    }
    for name in table::REFUSED.iter().flat_map(|(_, names)| *names) {
        set(name, Verdict::Error(EPERM));
    }
    for (name, check) in table::CHECKED {
        set(name, Verdict::Check(*check));
    }
    for (name, verdict) in changes {
        set(name, *verdict);
    }
    verdicts
}

/// The first number of each run, and the verdict of the run.
fn ranges(verdicts: &[Verdict]) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let silent = [Verdict::Error(ENOSYS)];
    for (number, verdict) in (0_u32..).zip(verdicts.iter().chain(&silent)) {
        if ranges.last().is_none_or(|(_, last)| last != verdict) {
            ranges.push((number, *verdict));
        }
    }
    ranges
}

/// Decides between ranges by halving them.
fn tree(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    match ranges {
        [] => error(ENOSYS),
        [(_, verdict)] => leaf(*verdict),
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let mut program = Vec::new();
            branch(&mut program, IF_AT_LEAST, above[0].0, &tree(above), &tree(below));
            program
        }
    }
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![Instruction(RETURN, 0, 0, ALLOW)],
        Verdict::Error(number) => error(number),
        Verdict::Check(Check::NoFlag { argument, mask }) => {
            let mut program = vec![load(ARGUMENTS + 8 * argument)];
            branch(&mut program, IF_ANY_BIT, mask, &error(EPERM), &leaf(Verdict::Allow));
            program
        }
        Verdict::Check(Check::NoneOf { argument, values }) => {
            among(argument, values, &error(EPERM), &leaf(Verdict::Allow))
        }
        Verdict::Check(Check::OneOf { argument, values, otherwise }) => {
            among(argument, values, &leaf(Verdict::Allow), &error(otherwise))
        }
    }
}

fn among(argument: u32, values: &[u32], yes: &[Instruction], no: &[Instruction]) -> Vec<Instruction> {
    let mut rest = no.to_vec();
    for value in values {
        let mut program = Vec::new();
        branch(&mut program, IF_EQUAL, *value, yes, &rest);
        rest = program;
    }
    let mut program = vec![load(ARGUMENTS + 8 * argument)];
    program.extend(rest);
    program
}

/// `if A ? k { yes } else { no }`. A conditional jump reaches 255 instructions, an unconditional one all.
fn branch(program: &mut Vec<Instruction>, test: u16, k: u32, yes: &[Instruction], no: &[Instruction]) {
    match u8::try_from(no.len()) {
        Ok(distance) => program.push(Instruction(test, distance, 0, k)),
        Err(_) => {
            let distance = u32::try_from(no.len()).unwrap_or(u32::MAX); // no program is that long
            program.extend([Instruction(test, 0, 1, k), Instruction(JUMP, 0, 0, distance)]);
        }
    }
    program.extend_from_slice(no);
    program.extend_from_slice(yes);
}

fn load(offset: u32) -> Instruction {
    Instruction(LOAD, 0, 0, offset)
}

fn error(number: u16) -> Vec<Instruction> {
    vec![Instruction(RETURN, 0, 0, ERRNO | u32::from(number))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A call as the kernel describes it to a filter.
    #[derive(Clone, Copy)]
    struct Call {
        number: u32,
        architecture: u32,
        arguments: [u64; 6],
    }

    fn word(call: Call, offset: u32) -> u32 {
        let half = |value: u64, upper: bool| {
            u32::try_from(if upper { value >> 32 } else { value & 0xffff_ffff }).unwrap()
        };
        match offset {
            NUMBER => call.number,
            ARCHITECTURE => call.architecture,
            16..64 => {
                let at = usize::try_from((offset - 16) / 8).unwrap();
                half(call.arguments[at], (offset - 16) % 8 == 4)
            }
            _ => panic!("load from {offset}"),
        }
    }

    /// What the kernel's interpreter does with the instructions we emit; panics on a jump out of the program.
    fn interpret(program: &[Instruction], call: Call) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let Instruction(code, jt, jf, k) = program[at];
            at += 1;
            let test = match code {
                LOAD => {
                    a = word(call, k);
                    continue;
                }
                JUMP => {
                    at += usize::try_from(k).unwrap();
                    continue;
                }
                RETURN => return k,
                IF_EQUAL => a == k,
                IF_AT_LEAST => a >= k,
                IF_ANY_BIT => a & k != 0,
                _ => panic!("code {code}"),
            };
            at += usize::from(if test { jt } else { jf });
        }
    }

    fn run(architecture: u32, number: i32, arguments: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let number = u32::try_from(number).unwrap();
        interpret(&filter(false), Call { number, architecture, arguments: all })
    }

    fn wide(name: &str, arguments: &[u64]) -> u32 {
        run(X86_64, x86_64::Sysno::from_str(name).unwrap().id(), arguments)
    }

    fn narrow(name: &str, arguments: &[u64]) -> u32 {
        run(I386, x86::Sysno::from_str(name).unwrap().id(), arguments)
    }

    fn names(groups: &[table::Group]) -> BTreeSet<&'static str> {
        groups.iter().flat_map(|(_, names)| names.iter().copied()).collect()
    }

    const REFUSE: u32 = ERRNO | EPERM as u32;
    const UNKNOWN: u32 = ERRNO | ENOSYS as u32;

    #[test]
    fn every_call_of_both_architectures_gets_the_table_s_verdict() {
        let (allowed, refused) = (names(table::ALLOWED), names(table::REFUSED));
        let checked: BTreeSet<_> = table::CHECKED.iter().map(|(name, _)| *name).collect();
        let expected = |name: &str| match name {
            name if allowed.contains(name) => Some(ALLOW),
            name if refused.contains(name) => Some(REFUSE),
            name if checked.contains(name) => None,
            _ => Some(UNKNOWN),
        };
        let program = filter(false);
        let verdict = |architecture, number: i32| {
            let number = u32::try_from(number).unwrap();
            interpret(&program, Call { number, architecture, arguments: [0; 6] })
        };
        let mut decided = 0;
        for call in x86_64::Sysno::iter() {
            if let Some(expected) = expected(call.name()) {
                assert_eq!(verdict(X86_64, call.id()), expected, "{}", call.name());
                decided += 1;
            }
        }
        for call in x86::Sysno::iter() {
            if let Some(expected) = expected(call.name()) {
                assert_eq!(verdict(I386, call.id()), expected, "i386 {}", call.name());
                decided += 1;
            }
        }
        assert!(decided > 800, "{decided}");
    }

    #[test]
    fn only_environments_with_32_bit_libraries_get_socketcall() {
        let number = x86::Sysno::socketcall.id().cast_unsigned();
        let call = |architecture| Call { number, architecture, arguments: [1, 0, 0, 0, 0, 0] };
        assert_eq!(interpret(&filter(false), call(I386)), UNKNOWN);
        assert_eq!(interpret(&filter(true), call(I386)), ALLOW);
        // The number means another call to 64-bit code.
        assert_eq!(interpret(&filter(true), call(X86_64)), interpret(&filter(false), call(X86_64)));
    }

    #[test]
    fn what_serves_a_tool_gets_less_than_a_tool() {
        let (local, network) = (companion_filter(false), companion_filter(true));
        let ask = |program: &[Instruction], architecture, name: &str, argument| {
            let number = x86_64::Sysno::from_str(name).unwrap().id().cast_unsigned();
            interpret(program, Call { number, architecture, arguments: [argument, 0, 0, 0, 0, 0] })
        };
        for name in table::COMPANION_REFUSED.iter().flat_map(|(_, names)| *names) {
            assert_eq!(wide(name, &[0]), ALLOW, "{name} is refused to tools too");
            assert_eq!(ask(&local, X86_64, name, 0), REFUSE, "{name}");
            assert_eq!(ask(&network, X86_64, name, 0), REFUSE, "{name}");
        }
        for name in ["socket", "socketpair"] {
            let refused = ERRNO | u32::from(table::EAFNOSUPPORT);
            for (family, without, with) in
                [(1, ALLOW, ALLOW), (2, refused, ALLOW), (10, refused, ALLOW), (16, refused, refused)]
            {
                assert_eq!(ask(&local, X86_64, name, family), without, "{name} {family}");
                assert_eq!(ask(&network, X86_64, name, family), with, "{name} {family}");
            }
        }
        for name in ["read", "connect", "execve", "clone"] {
            assert_eq!(ask(&local, X86_64, name, 0), ALLOW, "{name}");
            assert_eq!(ask(&local, I386, name, 0), KILL, "{name}");
        }
        assert_eq!(ask(&local, X86_64, "mount", 0), REFUSE);
    }

    #[test]
    fn numbers_nobody_has_named_are_unknown() {
        for number in [337, 400, 423, 470, 500, 1000, 0x3fff_ffff] {
            assert_eq!(run(X86_64, number, &[]), UNKNOWN, "{number}");
        }
    }

    #[test]
    fn the_table_names_each_call_once_and_none_that_does_not_exist() {
        let all = (table::ALLOWED.iter().chain(table::REFUSED).flat_map(|(_, names)| names.iter().copied()))
            .chain(table::CHECKED.iter().map(|(name, _)| *name));
        let mut seen = BTreeSet::new();
        for name in all {
            assert!(seen.insert(name), "{name} twice");
            let known = x86_64::Sysno::from_str(name).is_ok() || x86::Sysno::from_str(name).is_ok();
            assert!(known, "{name} is no system call");
        }
    }

    #[test]
    fn x32_and_foreign_architectures_do_not_get_in() {
        let read = x86_64::Sysno::read.id();
        assert_eq!(run(X86_64, read | 0x4000_0000, &[]), UNKNOWN);
        for number in 0..600 {
            assert_eq!(run(X86_64, number | 0x4000_0000, &[]), UNKNOWN);
        }
        assert_eq!(run(0xc000_00b7, read, &[]), KILL);
    }

    #[test]
    fn no_new_namespaces() {
        // As glibc starts a thread, and as fork does.
        assert_eq!(wide("clone", &[0x003d_0f00]), ALLOW);
        assert_eq!(wide("clone", &[0x0120_0011]), ALLOW);
        for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(wide("clone", &[flag | 0x11]), REFUSE, "{flag:x}");
            assert_eq!(wide("unshare", &[flag]), REFUSE, "{flag:x}");
            assert_eq!(narrow("clone", &[flag | 0x11]), REFUSE, "{flag:x}");
        }
        assert_eq!(wide("unshare", &[0x80]), REFUSE);
        assert_eq!(wide("unshare", &[0x400]), ALLOW);
        assert_eq!(wide("clone3", &[]), UNKNOWN);
        assert_eq!(wide("setns", &[]), REFUSE);
    }

    #[test]
    fn nothing_types_on_the_terminal_even_with_stray_upper_bits() {
        for request in [0x5412, 0x541c, 0x1_0000_5412, 0xffff_ffff_0000_541c] {
            assert_eq!(wide("ioctl", &[0, request]), REFUSE, "{request:x}");
            assert_eq!(narrow("ioctl", &[0, request]), REFUSE, "{request:x}");
        }
        assert_eq!(wide("ioctl", &[0, 0x5401]), ALLOW);
        // The descriptor may have any value.
        assert_eq!(wide("ioctl", &[0x5412, 0x5401]), ALLOW);
    }

    #[test]
    fn address_families_and_personalities_are_listed() {
        for (family, verdict) in [(1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (29, ALLOW)] {
            assert_eq!(wide("socket", &[family]), verdict);
        }
        for family in [0, 3, 17, 31, 38, 40, 44] {
            assert_eq!(wide("socket", &[family]), ERRNO | u32::from(table::EAFNOSUPPORT), "{family}");
        }
        assert_eq!(wide("personality", &[0xffff_ffff]), ALLOW);
        assert_eq!(wide("personality", &[8]), ALLOW);
        assert_eq!(wide("personality", &[0x40_0000]), REFUSE);
    }

    #[test]
    fn io_uring_looks_absent_and_the_kernel_s_doors_closed() {
        assert_eq!(wide("io_uring_setup", &[]), UNKNOWN);
        for name in ["mount", "bpf", "perf_event_open", "kexec_load", "finit_module", "keyctl", "userfaultfd"]
        {
            assert_eq!(wide(name, &[]), REFUSE, "{name}");
        }
    }

    #[test]
    fn the_program_is_one_the_kernel_takes() {
        let program = filter(false);
        assert!(program.len() < hatchway_sys::seccomp::MAX_INSTRUCTIONS / 4, "{}", program.len());
        for (index, Instruction(code, jt, jf, k)) in program.iter().enumerate() {
            let left = program.len() - index - 1;
            match *code {
                JUMP => assert!(usize::try_from(*k).unwrap() < left),
                IF_EQUAL | IF_AT_LEAST | IF_ANY_BIT => assert!(usize::from(*jt.max(jf)) < left),
                LOAD => assert!(*k < 64 && k % 4 == 0),
                _ => assert_eq!(*code, RETURN),
            }
        }
    }
}
