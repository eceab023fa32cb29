/work/wt/cycles/targets/cycles/target/release/deps/pare_cycles-6c934d456a668e88.d: /work/wt/cycles/clippy.toml src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs Cargo.toml

/work/wt/cycles/targets/cycles/target/release/deps/libpare_cycles-6c934d456a668e88.rmeta: /work/wt/cycles/clippy.toml src/lib.rs src/clock.rs src/flash.rs src/pipeline.rs src/plugin.rs src/thumb.rs Cargo.toml

/work/wt/cycles/clippy.toml:
src/lib.rs:
src/clock.rs:
src/flash.rs:
src/pipeline.rs:
src/plugin.rs:
src/thumb.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=
# env-dep:CLIPPY_CONF_DIR
