//! Hostile bytes as a blob: parsed and, if they pass, run.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pare_tests::fuzz::blob(bytes);
});
