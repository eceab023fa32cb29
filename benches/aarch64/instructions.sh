#!/usr/bin/env bash
# Instructions per multiply-accumulate of the AArch64 kernels, counted under user-mode emulation, as a table:
#
#     benches/aarch64/instructions.sh > benches/aarch64/instructions.txt
#
# Wants rustup's target aarch64-unknown-linux-gnu, a linker for it (Debian: gcc-aarch64-linux-gnu and
# libc6-dev-arm64-cross) and QEMU 4.2 to 8.2 with plugins (Debian: qemu-user, not qemu-user-static).
# The counts depend on the compiler alone: two runs are equal.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"

cargo build --quiet --release --package pare-benches --no-default-features --example aarch64_instructions --target "$target" >&2
rustc --edition 2024 -O --crate-type cdylib -o target/libcounter.so benches/aarch64/counter.rs

qemu-aarch64 -cpu max -plugin target/libcounter.so "target/$target/release/examples/aarch64_instructions" |
    awk -F, '
        NF == 4 { row = $1 " " $2; if (row != last) { rows[++n] = row; last = row }; column = $3; macs = $4
                  if (!(column in seen)) { seen[column] = 1; columns[++m] = column } }
        NF == 1 { ratio[row, column] = sprintf("%.3f", $1 / macs) }
        END {
            printf "%-28s", "instructions per MAC"
            for (j = 1; j <= m; j++) printf "%10s", columns[j]
            print ""
            for (i = 1; i <= n; i++) {
                printf "%-28s", rows[i]
                for (j = 1; j <= m; j++) printf "%10s", ratio[rows[i], columns[j]]
                print ""
            }
        }'
