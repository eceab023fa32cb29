//! Benches of kernels and networks; see the files under `benches/`.
