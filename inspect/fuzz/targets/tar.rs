//! Target `tar`: see the function of that name.
#![no_main]
use hatchway_inspect_fuzz::mutate;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hatchway_inspect_fuzz::tar(bytes));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::tar(data, size, max_size, seed)
});
