//! Memory of a matrix on a card: a program of its own, for its peak is measured.
#![cfg(feature = "gpu")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use common::peak_kib;
use hatchway_recon::gpu::{Device, Options, ShardedMatrix};
use hatchway_recon::solve::{Control, Kaczmarz, Prepared, Solver};
use num_complex::Complex;

/// Chunks on their way, on our side and the driver's.
const BESIDE_KIB: u64 = 40 << 10;

fn solved(device: &Device, rows: usize, columns: usize) -> u64 {
    let matrix = ShardedMatrix::new(device, rows, columns, |k, row| {
        // A diagonal, so that no matrix is needed to make it.
        row.fill(Complex::default());
        row[k] = Complex::new(2.0, 0.0);
        Ok(())
    })
    .unwrap();
    let solver = Solver::Kaczmarz(Kaczmarz { iterations: 2, block: Some(8), ..Kaczmarz::default() });
    let prepared = Prepared::new(&solver, &matrix, None).unwrap();
    let data = vec![Complex::new(1.0, 0.0); rows];
    let image = prepared.run(&data, None, &Control::default()).unwrap().image;
    assert!(image[..rows].iter().all(|value| (value - 0.5).norm() < 1e-6));
    device.taken_bytes() >> 10
}

/// The memory of a software adapter is that of this process, so there its matrix is counted, once.
#[test]
fn a_matrix_is_in_memory_once() {
    let options = Options { allow_software: true, ..Options::default() };
    let device = Device::open(&options).expect("an adapter: apt-get install mesa-vulkan-drivers");
    // Loads and compiles all there is.
    solved(&device, 10, 20);
    let before = peak_kib();
    let taken = solved(&device, 1500, 9000);
    let matrix = 1500 * 9000 * 8 / 1024;
    assert!(taken > matrix && matrix > 2 * BESIDE_KIB, "{taken} KiB with a matrix of {matrix}");
    let grown = peak_kib() - before;
    println!("{grown} KiB more, of which {taken} are the card's, and {matrix} the matrix");
    assert!(grown < taken + BESIDE_KIB, "{grown} KiB more, of which {taken} are the card's");
}
