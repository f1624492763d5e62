//! Target `deb`: see the function of that name.
#![no_main]
use hatchway_inspect_fuzz::mutate;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hatchway_inspect_fuzz::deb(bytes));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::deb(data, size, max_size, seed)
});
