//! Hostile bytes as an ONNX file: read and, if that gives a graph, simplified.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pare_tests::fuzz::onnx(bytes);
});
