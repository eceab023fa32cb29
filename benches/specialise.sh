#!/usr/bin/env bash
# Whether a policy that is searched for one target is worth having on another (HAQ's table of three machines): for each target
# the exact search finds policies at shares of the latency of 8 bits everywhere, and every policy is priced on every target.
# Then, of policies that keep as much on validation samples (within 0.3 points), how much faster a target's own are.
#
#   benches/specialise.sh [OUT] [TARGET...]     default: target/specialise, bit-fusion bismo-edge bismo-cloud
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/specialise}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(bit-fusion bismo-edge bismo-cloud)
shared=${PARE_SHARED:-../shared}
model=$shared/models/resnet8_float.tflite
data=cifar10:${PARE_CIFAR10:-$HOME/.cache/pare/cifar10}
shares=(0.2 0.25 0.3 0.35 0.4 0.5)
mkdir -p "$out"
if [ -z "${PARE:-}" ]; then
  cargo build --release --quiet -p pare
  PARE=target/release/pare
fi

once() { # file, command...
  local file=$1
  shift
  [ -s "$file" ] && return
  if "$@" --json --quiet >"$file.new"; then
    mv "$file.new" "$file"
  else
    rm "$file.new"
    return 1
  fi
}
latency() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); l = d["latency_predicted"] or d["latency"]; print(l["value"], l["unit"])' "$1"; }

for target in "${targets[@]}"; do
  once "$out/$target-w8a8.json" "$PARE" compile "$model" --data "$data" --target "$target" --bits w8a8 --all-layers --limit 1 --out "$out/blob"
  read -r whole unit < <(latency "$out/$target-w8a8.json")
  for share in "${shares[@]}"; do
    bound=$(python3 -c 'import sys; print(f"{float(sys.argv[1]) * float(sys.argv[2]):.0f}{sys.argv[3]}")' "$whole" "$share" "$unit")
    found=$out/$target-$share.json
    once "$found" "$PARE" search "$model" --data "$data" --target "$target" --max-latency "$bound" || continue
    python3 -c 'import json, sys; json.dump(json.load(open(sys.argv[1]))["policy"], open(sys.argv[2], "w"))' "$found" "$out/$target-$share.policy"
    for other in "${targets[@]}"; do
      once "$out/$target-$share-on-$other.json" "$PARE" compile "$model" --data "$data" --target "$other" \
        --policy "$out/$target-$share.policy" --limit 1 --out "$out/blob" || true
    done
  done
done

python3 - "$out" "${targets[@]}" -- "${shares[@]}" <<'PY'
import json, os, sys
out, rest = sys.argv[1], sys.argv[2:]
targets, shares = rest[:rest.index("--")], rest[rest.index("--") + 1:]
def load(name):
    path = f"{out}/{name}.json"
    return json.load(open(path)) if os.path.exists(path) and os.path.getsize(path) else None
def latency(d):
    return (d["latency_predicted"] or d["latency"])["value"]
rows = []
for a in targets:
    for share in shares:
        found = load(f"{a}-{share}")
        on = {b: load(f"{a}-{share}-on-{b}") for b in targets}
        if found:
            rows.append((a, share, found["chosen"]["accuracy"], {b: latency(d) for b, d in on.items() if d}))
print(f"{'for':12} {'share':6} {'val':>7}  " + "  ".join(f"on {b:>12}" for b in targets))
for a, share, accuracy, on in rows:
    print(f"{a:12} {share:6} {100 * accuracy:7.2f}  " + "  ".join(f"{on.get(b, float('nan')):15.0f}" for b in targets))
for b in targets:
    for a in targets:
        gains = [1 - own[b] / other[b] for x, _, own_accuracy, own in rows for y, _, accuracy, other in rows
                 if x == b and y == a and a != b and b in own and b in other and abs(own_accuracy - accuracy) <= 0.003]
        if gains:
            print(f"on {b}: its own policies take {100 * max(gains):.1f} % less than those for {a} at most, {100 * sum(gains) / len(gains):.1f} % in the mean of {len(gains)} pairs")
PY
