/work/wt/cycles/targets/cycles/target/release/deps/pare_cycles.d: src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs

/work/wt/cycles/targets/cycles/target/release/deps/libpare_cycles.so: src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs

/work/wt/cycles/targets/cycles/target/release/deps/libpare_cycles.rlib: src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs

src/lib.rs:
src/clock.rs:
src/flash.rs:
src/pipeline.rs:
src/plugin.rs:
src/thumb.rs:
