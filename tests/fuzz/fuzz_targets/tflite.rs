//! Hostile bytes as a TensorFlow Lite file: read and, if that gives a graph, simplified.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pare_tests::fuzz::tflite(bytes);
});
