#!/usr/bin/env python3
"""HAQ beside what it must beat: one width for all layers, a rule of thumb, guesses, evolution and the exact solver, with
as many policies tried and the same budget; and the widths that each kind of layer gets for a size or an accelerator.

  benches/haq.py resnet8 size4 size3 --seeds 0,1,2
  benches/haq.py vww size3 edge cloud --folds 1,2,3,4,5
  benches/haq.py dscnn size2.5 edge cloud --finetune 2

An objective is the price of one width everywhere but at the ends: `sizeN` the bytes of N-bit weights (of 2.5: half way
between 2 and 3), `sizekN` those of codebooks of N bits (and codebooks to choose from), `edge`, `cloud` and `fusion` the
cycles of 5-bit weights and activations on that accelerator. Policies are chosen on validation samples; test samples are
read once a policy. Each run's result is kept in the folder of --out, so that what was killed goes on.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PARE_SHARED", HERE.parent / "shared"))
CIFAR = os.environ.get("PARE_CIFAR10", Path.home() / ".cache/pare/cifar10")
DATA, MODELS = SHARED / "data", SHARED / "models"
NETWORKS = {
    "resnet8": [MODELS / "resnet8_float.tflite", "--data", f"cifar10:{CIFAR}"],
    "vww": [MODELS / "mobilenetv1_025_vww_float.tflite", "--data", f"npz:{DATA}/vww/dev.npz",
            "--input-scale", "0.00392156862745098"],
    "dscnn": [MODELS / "dscnn_kws_float.onnx", "--data", f"npz:{DATA}/kws/train.npz,{DATA}/kws/val.npz"],
}
ACCELERATORS = {"edge": "bismo-edge", "cloud": "bismo-cloud", "fusion": "bit-fusion"}
LINEAR = "w2,w3,w4,w5,w6,w7,w8"


class Objective:
    """What is bounded, and what may be chosen."""

    def __init__(self, name):
        self.name, self.target, self.part = name, [], 0.0
        self.flag, self.space = "--max-flash", ["--weight-formats", LINEAR, "--activation-bits", "8"]
        if name in ACCELERATORS:
            self.flag, self.target, self.uniform = "--max-latency", ["--target", ACCELERATORS[name]], ["w5a5"]
            self.space = ["--weight-formats", LINEAR, "--activation-bits", "2,3,4,5,6,7,8"]
        elif name.startswith("sizek"):
            self.uniform = [f"k{int(name[5:])}a8"]
            self.space = ["--weight-formats", "w1,t,k2,k3,k4", "--activation-bits", "8"]
        elif name.startswith("size"):
            bits = float(name[4:])
            self.part = bits - int(bits)
            self.uniform = [f"w{int(bits)}a8"] + ([f"w{int(bits) + 1}a8"] if self.part else [])
        else:
            raise ValueError(name)

    def budget(self, prices):
        """The price of the width, between those of two neighbours where it is not whole."""
        if self.flag == "--max-flash":
            least, most = prices[0]["blob_bytes"], prices[-1]["blob_bytes"]
            return f"{least + self.part * (most - least):.0f}B"
        latency = prices[0]["latency_predicted"] or prices[0]["latency"]
        return f'{latency["value"]:.0f}{latency["unit"]}'


class Bench:
    """Runs of one network, each kept in a file."""

    def __init__(self, options):
        self.options = options
        self.out = Path(options.out or HERE / "target/haq") / options.network
        self.out.mkdir(parents=True, exist_ok=True)
        self.pare = os.environ.get("PARE")
        if not self.pare:
            subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "pare"], cwd=HERE, check=True)
            self.pare = HERE / "target/release/pare"

    def once(self, name, *command):
        file = self.out / f"{name}.json"
        if not file.exists():
            command = [self.pare, *command, "--json", "--quiet"]
            run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE)
            if run.returncode:
                sys.exit(f"{name} failed: {' '.join(str(part) for part in command)}")
            new = file.with_suffix(".new")
            new.write_bytes(run.stdout)
            new.rename(file)
        return json.loads(file.read_text())

    def deployed(self, name, *how):
        training = ["--finetune", self.options.finetune] if self.options.finetune else []
        training += ["--augment", self.options.augment] if training and self.options.augment else []
        return self.once(name, "compile", *how, *training, "--rounding", "nearest", "--out", self.out / name)

    def run(self, objective, seed, fold):
        """Rows of (method, validation, test, bytes, widths by kind)."""
        suffix = f"-s{seed}" + (f"-f{fold}" if fold else "")
        some = [*NETWORKS[self.options.network], *objective.target, "--seed", seed, *(["--fold", fold] if fold else [])]
        stem = f"{objective.name}{suffix}"
        prices = [self.once(f"{stem}-{bits}-price", "compile", *some, "--bits", bits, "--rounding", "nearest", "--limit", 1,
                            "--out", self.out / f"{stem}-{bits}-price") for bits in objective.uniform]
        budget = objective.budget(prices)
        stem += f"-n{self.options.evaluations}" + (f"-t{self.options.tune}" if self.options.tune else "")
        tune = ["--tune", self.options.tune] if self.options.tune else []
        found = self.once(f"{stem}-search", "search", *some, *objective.space, "--rounding", "nearest", "--pin-edges",
                          objective.flag, budget, "--search", "haq", "--evaluations", self.options.evaluations, *tune)
        trained = f"-e{self.options.finetune}-{self.options.augment}" if self.options.finetune else ""
        rows, whole = [], None
        for bits in objective.uniform:
            uniform = self.deployed(f"{stem}-{bits}{trained}", *some, "--bits", bits)
            whole = uniform["accuracy_float"]
            rows.append((bits, float("nan"), uniform["accuracy"], uniform["blob_bytes"], None))
        for point in [found["chosen"], *found["beside"]]:
            if self.options.methods and point["name"] not in self.options.methods:
                continue
            policy = self.out / f'{stem}-{point["name"]}.policy'
            policy.write_text(json.dumps(point["policy"]))
            test = self.deployed(f'{stem}-{point["name"]}{trained}', *some, "--policy", policy)
            rows.append((point["name"], point["accuracy"], test["accuracy"], test["blob_bytes"], point["widths"]))
        print(f"\n{self.options.network}, {objective.name}{suffix}: {objective.flag} {budget}, "
              f'float {whole:.4f}, search of all {found["wall_s"]:.0f} s')
        for method, val, test, size, widths in rows:
            kinds = "" if widths is None else "  ".join(
                f'{kind} {mean["weights"]:.1f}x{mean["activations"]:.1f}' for kind, mean in widths.items())
            print(f"  {method:10} val {100 * val:6.2f}  test {100 * test:6.2f}  {size:7} B  {kinds}", flush=True)
        return rows


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(part) for part in text.split(",")]
    parse.add_argument("network", choices=NETWORKS)
    parse.add_argument("objectives", nargs="+", type=Objective)
    parse.add_argument("--seeds", type=numbers, default=[0])
    parse.add_argument("--folds", type=numbers, default=[None], help="of data in one piece")
    parse.add_argument("--evaluations", type=int, default=600)
    parse.add_argument("--tune", type=int, help="samples that each policy is trained on before it is scored")
    parse.add_argument("--finetune", type=int, help="epochs of training for what is deployed")
    parse.add_argument("--methods", type=lambda text: text.split(","), help="those to deploy, as haq,exact,random")
    parse.add_argument("--augment", help="how training samples vary, as flip,shift-edge=4")
    parse.add_argument("--out")
    options = parse.parse_args()
    bench = Bench(options)
    for objective in options.objectives:
        runs = [bench.run(objective, seed, fold) for seed in options.seeds for fold in options.folds]
        if len(runs) > 1:
            print(f"\n{options.network}, {objective.name}: test, mean and spread of {len(runs)} runs")
            for method in dict.fromkeys(row[0] for rows in runs for row in rows):
                test = [100 * row[2] for rows in runs for row in rows if row[0] == method]
                print(f"  {method:10} {statistics.mean(test):6.2f}  {min(test):6.2f} to {max(test):6.2f}", flush=True)


main()
