//! Hostile packed weights: every kernel decodes them as the reference does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pare_tests::fuzz::weights(bytes);
});
