#!/usr/bin/env bash
# Makes the figures that the README and the changelog quote: accuracy, size, latency and bit-exactness of
# the MLPerf Tiny reference networks. Needs ../shared (models and data); takes some ten minutes on two cores.
#
#   benches/figures.sh [OUT]          results: OUT/*.json (default target/figures), a table on standard output
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/figures}
shared=${PARE_SHARED:-../shared}
cifar=${PARE_CIFAR10:-$HOME/.cache/pare/cifar10}
mkdir -p "$out"
cargo build --release --quiet
pare() { target/release/pare "$@"; }

# name, model file, data and preprocessing
nets() {
  echo "resnet8 resnet8_float.tflite --data cifar10:$cifar"
  echo "dscnn dscnn_kws_float.onnx --data npz:$shared/data/kws/train.npz,$shared/data/kws/val.npz"
  echo "vww mobilenetv1_025_vww_float.tflite --data npz:$shared/data/vww/dev.npz --input-scale 0.00392156862745098"
  echo "toycar toycar_autoencoder_float.tflite --data npz:$shared/data/toycar/train_normal.npz,$shared/data/toycar/val.npz"
}

show() { # label, file of `compile --json`
  python3 - "$1" "$2" <<'PY'
import json, sys
label, d = sys.argv[1], json.load(open(sys.argv[2]))
us, predicted = d["latency"]["value"] / 1e3, (d["latency_predicted"] or {"value": float("nan")})["value"] / 1e3
print(f'{label:32} {d["metric"]} {d["accuracy"]:.4f} float {d["accuracy_float"]:.4f} n {d["n"]} blob {d["blob_bytes"]}'
      f' arena {d["arena_bytes"]} {us:.2f} us predicted {predicted:.2f} ({100 * (predicted / us - 1):+.0f} %)', flush=True)
PY
}

backends=reference,portable,avx2,avxvnni,avx512vnni
nets | while read -r name model options; do
  mixed=$out/$name-mixed
  for bits in w8a8 w4a8 w2a4; do
    # shellcheck disable=SC2086
    pare compile "$shared/models/$model" $options --bits $bits --out "$out/$name-$bits" --json >"$out/$name-$bits.json"
    show "$name $bits" "$out/$name-$bits.json"
  done
  size=$(python3 -c "import json,sys; print(json.load(open(sys.argv[1]))['blob_bytes'])" "$out/$name-w4a8.json")
  # shellcheck disable=SC2086
  pare compile "$shared/models/$model" $options --max-flash "$size" --out "$mixed" --json >"$mixed.json"
  show "$name mixed at the size of w4" "$mixed.json"
  for policy in w8a8 w4a8 w2a4 mixed; do
    blob=$(ls "$out/$name-$policy"/*.pare)
    data=$(echo "$options" | sed 's/--input-scale.*//')
    # shellcheck disable=SC2086
    pare verify "$blob" --float "$shared/models/$model" $data --backends "${PARE_BACKENDS:-$backends}" ${PARE_VERIFY:-} |
      sed "s/^/$name $policy: /"
  done
done

# Mixed precision against uniform at the same size, same rounding on both, three seeds.
model=$shared/models/resnet8_float.tflite
for rounding in nearest data-aware; do
  for bits in 4 3; do
    for seed in 0 1 2; do
      common="--data cifar10:$cifar --rounding $rounding --seed $seed"
      base=$out/resnet8-$rounding-w$bits-$seed
      # shellcheck disable=SC2086
      pare compile "$model" $common --bits "w${bits}a8" --out "$base" --json >"$base.json"
      show "uniform w$bits $rounding seed $seed" "$base.json"
      size=$(python3 -c "import json,sys; print(json.load(open(sys.argv[1]))['blob_bytes'])" "$base.json")
      # shellcheck disable=SC2086
      pare compile "$model" $common --max-flash "$size" --out "$base-mixed" --json >"$base-mixed.json"
      show "mixed at that size" "$base-mixed.json"
    done
  done
done
