//! Target `unit`: see the function of that name.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hatchway_inspect_fuzz::units::unit(bytes));
