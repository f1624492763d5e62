//! `hatchway`: runs the vendor software you cannot change on the system you have pinned.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hatchway::cli::main()
}
