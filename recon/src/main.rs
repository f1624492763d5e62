//! `hatchway-recon`: MPI files, simulation, reconstruction, images.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hatchway_recon::cli::main()
}
