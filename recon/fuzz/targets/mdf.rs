//! Target `mdf`: see the function of that name.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hatchway_recon_fuzz::mdf(bytes));
