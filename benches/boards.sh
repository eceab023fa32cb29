#!/usr/bin/env bash
# Holds the MLPerf Tiny reference networks on emulated microcontrollers against the reference kernels, and counts
# their instructions: w8a8 and two policies that mix widths from layer to layer, on 100 inputs each.
# Needs ../shared (models and data) and what targets/setup installs; takes most of an hour of processor time.
#
#   benches/boards.sh [OUT [TARGET...]]     a line a network, policy and core; OUT: target/boards by default
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/boards}
shift $(($# > 0 ? 1 : 0))
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(cortex-m0plus cortex-m3 cortex-m4 cortex-m7 cortex-m33 cortex-m55 rv32imac)
shared=${PARE_SHARED:-../shared}
cifar=${PARE_CIFAR10:-$HOME/.cache/pare/cifar10}
pare=${PARE:-}
mkdir -p "$out"
[ -n "$pare" ] || { cargo build --release --quiet && pare=target/release/pare; }

# Name, samples (one of ToyCar is 196 windows), model file, data and preprocessing.
nets() {
    echo "resnet8 100 resnet8_float.tflite --data cifar10:$cifar"
    echo "dscnn 100 dscnn_kws_float.onnx --data npz:$shared/data/kws/train.npz,$shared/data/kws/val.npz"
    echo "vww 100 mobilenetv1_025_vww_float.tflite --data npz:$shared/data/vww/dev.npz --input-scale 0.00392156862745098"
    echo "toycar 1 toycar_autoencoder_float.tflite --data npz:$shared/data/toycar/train_normal.npz,$shared/data/toycar/val.npz"
}

# mix FORMATS BITS < POLICY: weight formats and activation widths in turn, from layer to layer.
mix() {
    python3 -c '
import itertools, json, sys
policy = json.load(sys.stdin)
weights, bits = (itertools.cycle(words.split(",")) for words in sys.argv[1:])
for layer in policy.values():
    layer["activation_bits"] = int(next(bits))
    if layer.get("weights") is not None:
        layer["weights"] = next(weights)
json.dump(policy, sys.stdout)' "$@"
}

number() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

for target in "${targets[@]}"; do
    nets | while read -r name samples model options; do
        # shellcheck disable=SC2086
        compile() { "$pare" compile "$shared/models/$model" $options --target "$target" --limit 100 "$@" --json >"$at.json"; }
        for policy in w8a8 mixed-linear mixed-all; do
            at=$out/$target/$name-$policy
            mkdir -p "$at"
            case $policy in
            w8a8) compile --bits w8a8 --out "$at" ;;
            mixed-linear) mix w8,w4,w2 8,4,8,2 <"$out/$target/$name-w8a8/policy.json" >"$at.policy" ;;
            mixed-all) mix t,k4,w3,w8,k2,w1 8,6,4 <"$out/$target/$name-w8a8/policy.json" >"$at.policy" ;;
            esac
            [ "$policy" = w8a8 ] || compile --policy "$at.policy" --out "$at"
            blob=$(ls "$at"/*.pare)
            # shellcheck disable=SC2001
            data=$(echo "$options" | sed 's/--input-scale.*//')
            # shellcheck disable=SC2086
            verified=$("$pare" verify "$blob" $data --limit "$samples" --backends "reference,qemu:$target" --json) || true
            counted=$("$pare" bench "$blob" --target "$target" --json)
            echo "$target $name $policy: $(number median <<<"$counted") instructions, bit-exact" \
                "$(number bit_exact <<<"$verified") on $(number inputs <<<"$verified") inputs"
        done
    done
done
