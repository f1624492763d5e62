//! Truncated and damaged files: no panic, and no more memory than a bound. This test is a program of its own, so that
//! its peak of addresses is that of nothing else.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml lets only functions marked as tests unwrap, not their helpers"
)]

mod common;

use std::panic::catch_unwind;

use common::{made, model};
use hatchway_recon::mdf::write::{DataShape, ElementType, Options};
use hatchway_recon::mdf::{File, Mdf, MeasurementData, Writer, check_bytes};
use num_complex::Complex;

/// Bits that are flipped are chosen by this.
const SEED: u64 = 0x6d64_6632;
/// Damaged files of each kind.
const MUTANTS: u64 = 250;
/// Addresses that the program may take, whether it touches them or not. It has some 140 MiB of them before it reads
/// anything: stacks, and what each thread's allocator reserves.
const PEAK_KIB_MAX: u64 = 384 << 10;

/// The next of a sequence of random numbers: SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn below(state: &mut u64, limit: usize) -> usize {
    usize::try_from(next(state) % u64::try_from(limit).unwrap()).unwrap()
}

/// Everything that reads. Whether it fails is of no interest. True if the file was opened.
fn read_all(bytes: &[u8]) -> bool {
    let report = check_bytes(bytes);
    if let Ok(file) = File::from_bytes("hostile", bytes.to_vec())
        && let Ok((mdf, _)) = Mdf::read(&file)
        && let Ok(data) = MeasurementData::open(&file, &mdf)
    {
        drop(data.read_frames::<Complex<f32>>(0..1));
        drop(data.read_rows::<Complex<f32>>(0, 0, 0..1));
    }
    report.is_ok()
}

fn survives(name: &str, what: &str, bytes: &[u8]) -> bool {
    let done = catch_unwind(|| read_all(bytes));
    done.unwrap_or_else(|_| panic!("panic on {name}, {what}"))
}

fn ours() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.mdf");
    let shape = DataShape { shape: [4, 1, 2, 8], element: ElementType::Float32 };
    let mut writer = Writer::create(&path, &model(4), Some(&shape), Options::default()).unwrap();
    writer.append(&[1.5_f32; 64]).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn damaged_files_are_survived() {
    let mut files: Vec<_> = ["time", "packed", "packed-fast", "latest-packed", "dct-2", "fixed"]
        .map(|kind| (kind, std::fs::read(made(kind).path).unwrap()))
        .into();
    files.push(("ours", ours()));
    let (mut opened, mut tried) = (0_u64, 0_u64);
    for (name, bytes) in &files {
        assert!(read_all(bytes), "{name} is valid");
        for end in (0..bytes.len()).step_by(bytes.len() / 300) {
            survives(name, &format!("cut at {end}"), &bytes[..end]);
        }
        let mut state = SEED;
        for mutant in 0..MUTANTS {
            let mut damaged = bytes.clone();
            for _ in 0..=below(&mut state, 8) {
                let at = below(&mut state, damaged.len());
                // Half of them flips, half of them extreme: lengths and addresses then claim the most.
                damaged[at] =
                    if next(&mut state) & 1 == 0 { 0xff } else { damaged[at] ^ (1 << below(&mut state, 8)) };
            }
            tried += 1;
            opened += u64::from(survives(name, &format!("mutant {mutant}"), &damaged));
        }
    }
    // Mutants that are refused at once would show nothing.
    assert!(opened * 2 > tried, "{opened} of {tried} were opened");
    assert!(peak_kib() < PEAK_KIB_MAX, "{} KiB of addresses at the peak", peak_kib());
}
