/work/wt/cycles/targets/cycles/target/release/deps/pare_cycles-8e6441316be934b9.d: src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs

/work/wt/cycles/targets/cycles/target/release/deps/pare_cycles-8e6441316be934b9: src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs

src/lib.rs:
src/clock.rs:
src/flash.rs:
src/pipeline.rs:
src/plugin.rs:
src/thumb.rs:
