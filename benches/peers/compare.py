#!/usr/bin/env python3
"""Times Pare and other runtimes on the same networks, in one run on one core, batch 1, one thread.

Contestants take turns: a sample is some 0.3 ms of back-to-back calls, the input unchanged, after one call that is not
timed; samples of all contestants alternate, so that all see the same weather. Samples in which the thread was
preempted (CPU time below 98 % of wall time) are dropped. A round's figure is the median of its samples; its ratio is
ours against the fastest peer of that round. Several rounds, each with freshly loaded contestants; the WORST ratio is
quoted. Writes peers.json and peers.md (the table of the README).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

MODELS = {
    "resnet8": ("ResNet-8", "resnet8"),
    "dscnn": ("DS-CNN", "dscnn_kws"),
    "vww": ("MobileNetV1-0.25", "mobilenetv1_025_vww"),
    "toycar": ("ToyCar autoencoder", "toycar_autoencoder"),
}
SAMPLER = pathlib.Path("target/release/examples/sampler")


class InProcess:
    """A runtime called from this process."""

    def __init__(self, call):
        self.call = call

    def sample(self, runs):
        """Wall and CPU nanoseconds of `runs` calls."""
        call = self.call
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        for _ in range(runs):
            call()
        wall = time.perf_counter_ns() - wall
        return wall, time.thread_time_ns() - cpu


class Pare:
    """A blob in a process of its own, which sleeps while others are timed."""

    def __init__(self, blob):
        self.process = subprocess.Popen([SAMPLER, blob], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def sample(self, runs):
        before = self.cpu()
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return int(answer), self.cpu() - before

    def cpu(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def litert(path, rng):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    d = interpreter.get_input_details()[0]
    interpreter.set_tensor(d["index"], noise(d["shape"], d["dtype"], rng))
    # The bound method of the wrapped object: no Python between the timer and the runtime.
    keep = interpreter
    invoke = interpreter._interpreter.Invoke
    return lambda keep=keep, invoke=invoke: invoke()


def openvino(path, rng):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(str(path))
    shape = model.inputs[0].get_partial_shape()
    shape[0] = 1
    model.reshape(shape)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(model, "CPU", options)
    request, port = compiled.create_infer_request(), compiled.inputs[0]
    request.set_input_tensor(ov.Tensor(noise(list(port.shape), port.element_type.to_dtype(), rng)))
    request.infer()
    return lambda: request.infer(share_inputs=True, share_outputs=True)


def onnxruntime(path, rng):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    port, binding = session.get_inputs()[0], session.io_binding()
    shape = [n if isinstance(n, int) else 1 for n in port.shape]
    binding.bind_cpu_input(port.name, noise(shape, np.int8 if "int8" in port.type else np.float32, rng))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


PEERS = {"LiteRT": litert, "OpenVINO": openvino, "ONNX Runtime": onnxruntime}


def noise(shape, dtype, rng):
    if np.dtype(dtype) == np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32)


def model_file(peer, stem, kind, models, out):
    """What a peer reads: ONNX Runtime the QDQ form (U8 activations, S8 weights a channel), the others the .tflite."""
    tflite = models / f"{stem}_{kind}.tflite"
    if peer != "ONNX Runtime":
        return tflite
    float_onnx = models / f"{stem}_float.onnx"
    if not float_onnx.exists():
        float_onnx = out / f"{stem}_float.onnx"
        if not float_onnx.exists():
            import tflite2onnx

            tflite2onnx.convert(str(models / f"{stem}_float.tflite"), str(float_onnx))
    return float_onnx if kind == "float" else qdq(float_onnx, out / f"{stem}_qdq.onnx")


def qdq(float_onnx, path):
    """Static quantisation, calibrated on noise: ranges change the results, not the time."""
    if path.exists():
        return path
    import onnx
    import onnx.version_converter
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Scales a channel want opset 13.
    model = onnx.version_converter.convert_version(onnx.load(float_onnx), 17)
    port = model.graph.input[0]
    shape = [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]

    class Noise(CalibrationDataReader):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.samples = iter([{port.name: noise(shape, np.float32, rng)} for _ in range(16)])

        def get_next(self):
            return next(self.samples, None)

    ready = path.with_suffix(".ready.onnx")
    onnx.save(model, ready)
    quant_pre_process(str(ready), str(ready), skip_symbolic_shape=True)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(ready), str(path), Noise(), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    return path


def calls_a_sample(contestant):
    """As many calls as take some 0.3 ms, once warm."""
    contestant.sample(1)
    runs, wall = 1, 0
    while wall < 30e6:
        runs *= 2
        wall = contestant.sample(runs)[0]
    return max(1, round(300e3 / (wall / runs)))


def one_round(contestants, samples):
    """Median microseconds of each contestant, all alternating."""
    runs = {name: calls_a_sample(c) for name, c in contestants.items()}
    kept = {name: [] for name in contestants}
    dropped = {name: [] for name in contestants}
    for _ in range(samples):
        for name, contestant in contestants.items():
            contestant.sample(1)
            wall, cpu = contestant.sample(runs[name])
            (kept if cpu >= 0.98 * wall else dropped)[name].append(wall / runs[name] / 1e3)
    enough = {name: times if len(times) >= samples // 4 else times + dropped[name] for name, times in kept.items()}
    return {name: statistics.median(times) for name, times in enough.items()}


def measure(net, args, skip):
    stem = MODELS[net][1]
    models, rng = args.shared / "models", np.random.default_rng(0)
    rounds, errors = [], {}
    for _ in range(args.rounds):
        contestants = {}
        for blob in sorted(args.out.glob(f"{net}-*.pare")):
            contestants[blob.stem.removeprefix(f"{net}-")] = Pare(blob)
        for peer, load in PEERS.items():
            if peer in skip:
                continue
            try:
                contestants[peer] = InProcess(load(model_file(peer, stem, args.kind, models, args.out), rng))
            except Exception as error:  # a peer that cannot load a model is a result, too
                errors[peer] = str(error)[:300]
        rounds.append({name: round(us, 3) for name, us in one_round(contestants, args.samples).items()})
        for contestant in contestants.values():
            if isinstance(contestant, Pare):
                contestant.close()
        print(json.dumps({"model": net, **rounds[-1]}), flush=True)
    for peer, error in errors.items():
        print(f"{net}: {peer} does not run it: {error}", file=sys.stderr)
    return {"rounds": rounds, "errors": errors, **summary(rounds)}


def summary(rounds):
    """Medians over the rounds, and for each of ours the worst ratio to the fastest peer of a round."""
    names = list(rounds[0])
    ratio = lambda ours, row: min(us for name, us in row.items() if name in PEERS) / row[ours]
    return {
        "median": {name: round(statistics.median(row[name] for row in rounds), 3) for name in names},
        "ratio": {name: round(min(ratio(name, row) for row in rounds), 3) for name in names if name not in PEERS},
    }


def table(results):
    ours = list(dict.fromkeys(name for r in results.values() for name in r["ratio"]))
    peers = [peer for peer in PEERS if any(peer in r["median"] for r in results.values())]
    head = ["network", *ours, *peers, *(f"{name}: times faster" for name in ours)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    show = lambda number, form: "–" if number is None else format(number, form)
    for net, r in results.items():
        cells = [MODELS[net][0], *(show(r["median"].get(name), ".4g") for name in ours + peers)]
        lines.append("| " + " | ".join(cells + [show(r["ratio"].get(name), ".2f") for name in ours]) + " |")
    means = []
    for name in ours:
        ratios = [r["ratio"][name] for r in results.values() if name in r["ratio"]]
        means.append(f"{statistics.geometric_mean(ratios):.2f}")
    lines.append("| geometric mean |" + " |" * len(ours + peers) + " " + " | ".join(means) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--kind", default="int8", choices=["int8", "float"], help="what the peers run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=300, help="of each contestant in a round")
    parser.add_argument("--skip", default="", help="peers to leave out, separated by commas")
    parser.add_argument("--cpu", type=int, default=1)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    results = {net: measure(net, args, args.skip.split(",")) for net in args.models.split(",")}
    cpu = next((l.split(": ")[1] for l in open("/proc/cpuinfo") if l.startswith("model name")), "").strip()
    document = {"cpu": cpu, "date": time.strftime("%Y-%m-%d"), "unit": "us", "kind": args.kind, "models": results}
    (args.out / "peers.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "peers.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
