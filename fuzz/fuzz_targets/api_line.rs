//! Lets libFuzzer look for inputs that break `mesh_fuzz::decoder::local::api_line`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mesh_fuzz::decoder::local::api_line(data);
});
