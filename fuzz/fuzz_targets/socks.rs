//! Lets libFuzzer look for inputs that break `mesh_fuzz::decoder::proxy::socks`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mesh_fuzz::decoder::proxy::socks(data);
});
