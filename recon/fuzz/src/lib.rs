//! What each fuzz target does with its bytes. No input may make the library panic, overflow, allocate without bound or hang; the
//! allocator's bound and libFuzzer's time limit end the process, which libFuzzer reports with the input that did it.

use std::alloc::System;

use cap::Cap;
use hatchway_recon::mdf::{File, Mdf, MeasurementData, check_bytes};
use hatchway_recon::online;
use hatchway_recon::physics::Mesh;
use hatchway_wire::frames::{HEAD, Head};
use num_complex::Complex;

/// Bytes that one execution may have allocated at a time. A read may take 64 MiB ([`hatchway_recon::mdf`]), and what it is turned into.
const MEMORY: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// A file in the Magnetic Particle Imaging Data Format: checked, and read as far as it can be.
pub fn mdf(bytes: &[u8]) {
    drop(check_bytes(bytes));
    if let Ok(file) = File::from_bytes("fuzz", bytes.to_vec())
        && let Ok((mdf, _)) = Mdf::read(&file)
        && let Ok(data) = MeasurementData::open(&file, &mdf)
        && let Ok(data) = data.converted(&mdf)
    {
        drop(data.read_frames::<Complex<f32>>(0..1));
        drop(data.read_rows::<Complex<f32>>(0, 0, 0..1));
    }
}

/// A surface as STL, of either form.
pub fn stl(bytes: &[u8]) {
    if let Ok(mesh) = Mesh::read(bytes) {
        let _ = mesh.placed(1e-3, &[0.0; 3]).contains(&[0.0; 3]);
    }
}

/// A stream of frames: a description, and a frame of it.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    let Ok(frames) = online::describe(&mut rest) else { return };
    let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return };
    if let Some(head) = Head::parse(head) {
        assert_eq!(Head::parse(&head.bytes()), Some(head));
        drop(online::decode(&frames, rest));
    }
}
