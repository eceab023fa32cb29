#!/usr/bin/env python3
"""Makes the golden files: what the reference runtimes answer, for Pare's tests to compare with.

    tests/goldens.py ops               # tests/goldens/ops, committed: one small model an operator
    tests/goldens.py models [DIR]      # target/goldens, cached: the reference models in DIR

Needs numpy, onnx, onnxruntime and ai-edge-litert from PyPI.

Layout. Beside a model NAME.onnx or NAME.tflite (for `models`: under the same name in the output
directory) stands NAME.EXT.npz with arrays `input_0`, `input_1`, ... and `output_0`, ..., in the order
of the model's inputs and outputs, float32, in the layout of the *file*; the first axis counts
samples, each run alone with a batch of 1. Quantised inputs and outputs are stored as the real numbers
that their codes stand for. Pare's graph is NHWC: a rank-4 array of an ONNX model is transposed by
(0, 2, 3, 1) first, except where the model itself transposes at its border; those models have `nhwc` in
their name. All other arrays are alike. Names with `int8` in them are quantised: the float graph agrees
to some steps of the output's scale only (the more layers, the more), which `tolerance` (absolute) states; elsewhere `tolerance` is
absent, and the relative error must be at most 1e-4.
"""

import os
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as tfl
from onnx import TensorProto, helper, numpy_helper
import flatbuffers

ROOT = pathlib.Path(__file__).resolve().parent


def uniform(low, high):
    return lambda rng, shape: rng.uniform(low, high, shape)


def mfcc(rng, shape):
    """49 frames of 10 coefficients, the first of them large and negative, as of quiet speech."""
    frames = rng.normal(size=(49, 10)) * [24, 4, 2.5, 2, 1.7, 1.4, 1.3, 1.2, 1, 1]
    return (frames + [-15, 2, 0, 0, 0, 0, 0, 0, 0, 0]).reshape(shape)


INPUTS = {"resnet8": uniform(0, 255), "mobilenetv1": uniform(0, 1), "dscnn": mfcc, "toycar": uniform(-85, 15)}


def main():
    match sys.argv[1:]:
        case ["ops"]:
            make_ops(ROOT / "goldens" / "ops")
        case ["models", *rest]:
            make_models(pathlib.Path(rest[0]) if rest else shared() / "models", ROOT.parent / "target" / "goldens")
        case _:
            sys.exit(__doc__)


def shared():
    named = os.environ.get("PARE_SHARED")
    places = [*([pathlib.Path(named)] if named else []), *(parent / "shared" for parent in ROOT.parents)]
    found = [path for path in places if (path / "models").is_dir()]
    return found[0] if found else sys.exit("no shared/models above the workspace: set PARE_SHARED or name the directory")


def make_models(source, out):
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.suffix in (".onnx", ".tflite"):
            draw = next(draw for key, draw in INPUTS.items() if path.name.startswith(key))
            record(path.read_bytes(), out / path.name, draw, 4, steps=32)


def make_ops(out):
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    for name, model in onnx_models():
        onnx.checker.check_model(model)
        data = model.SerializeToString()
        (out / f"{name}.onnx").write_bytes(data)
        record(data, out / f"{name}.onnx", uniform(-2, 2), 1)
    for name, data in tflite_models():
        (out / f"{name}.tflite").write_bytes(data)
        record(data, out / f"{name}.tflite", uniform(-2, 2), 1)


def record(data, path, draw, samples, steps=4):
    """Runs the model on random inputs and writes NAME.EXT.npz."""
    rng = np.random.default_rng(sum(path.name.encode()))
    run = run_onnx if path.suffix == ".onnx" else run_tflite
    arrays = run(data, lambda shape: draw(rng, shape).astype(np.float32), samples)
    if "tolerance" in arrays:
        arrays["tolerance"] *= steps
    with open(f"{path}.npz", "wb") as file:
        np.savez_compressed(file, **arrays)
    print(path.name, {key: value.shape for key, value in arrays.items()})


def collect(runs):
    inputs, outputs = zip(*runs)
    arrays = {f"input_{i}": np.concatenate(column) for i, column in enumerate(zip(*inputs))}
    arrays |= {f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*outputs))}
    return {key: value.astype(np.float32) for key, value in arrays.items()}


def run_onnx(data, draw, samples):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    shapes = [(i.name, [d if isinstance(d, int) else 1 for d in i.shape]) for i in session.get_inputs()]
    runs = []
    for _ in range(samples):
        feed = {name: draw(shape) for name, shape in shapes}
        runs.append((list(feed.values()), session.run(None, feed)))
    return collect(runs)


def run_tflite(data, draw, samples):
    # The reference kernels, not XNNPACK: they are the operators' definition.
    interpreter = litert.Interpreter(
        model_content=data,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
    runs = []
    for _ in range(samples):
        inputs = []
        for detail in ins:
            real = draw(detail["shape"])
            codes = real
            if detail["dtype"] != np.float32:
                scale, zero = detail["quantization"]
                info = np.iinfo(detail["dtype"])
                codes = np.clip(np.round(real / scale) + zero, info.min, info.max).astype(detail["dtype"])
                real = real_of(codes, detail)
            interpreter.set_tensor(detail["index"], codes)
            inputs.append(real)
        interpreter.invoke()
        runs.append((inputs, [real_of(interpreter.get_tensor(d["index"]), d) for d in outs]))
    arrays = collect(runs)
    details = outs if outs[0]["dtype"] != np.float32 else interpreter.get_tensor_details()
    scales = [d["quantization"][0] for d in details if d["dtype"] == np.int8]
    return arrays | ({"tolerance": np.float32(max(scales))} if scales else {})


def real_of(codes, detail):
    if detail["dtype"] == np.float32:
        return codes
    scale, zero = detail["quantization"]
    return ((codes.astype(np.float32) - zero) * scale).astype(np.float32)


# ONNX: each model a list of nodes, from the input x to the output z.

IMAGE = [1, 6, 5, 4]


def weights(*shape, seed=0):
    return (np.random.default_rng(seed + sum(shape)).normal(size=shape) * 0.4).astype(np.float32)


def net(nodes, constants=None, x=IMAGE, outputs=("z",), opset=17):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def op(kind, inputs="x", outputs="z", name="", **attributes):
    return helper.make_node(kind, inputs.split(" ") if inputs else [], outputs.split(), name=name or f"{kind.lower()}_{outputs}", **attributes)


def onnx_models():
    w = weights
    i64 = lambda *values: np.array(values, np.int64)
    f32 = lambda *values: np.array(values, np.float32)

    # Convolutions.
    yield "conv", net([op("Conv", "x w b", pads=[1, 0, 2, 1], strides=[2, 1])], {"w": w(4, 6, 3, 2), "b": w(4)})
    yield "conv_no_bias", net([op("Conv", "x w")], {"w": w(4, 6, 1, 1)})
    yield "conv_dilated", net([op("Conv", "x w", dilations=[2, 1], pads=[2, 1, 2, 1])], {"w": w(4, 6, 3, 3)})
    yield "conv_groups", net([op("Conv", "x w b", group=2, pads=[1, 1, 1, 1])], {"w": w(4, 3, 3, 3), "b": w(4)})
    yield "conv_depthwise", net([op("Conv", "x w b", group=6, strides=[2, 2], pads=[1, 1, 1, 1])], {"w": w(6, 1, 3, 3), "b": w(6)})
    yield "conv_depthwise_x2", net([op("Conv", "x w b", group=6)], {"w": w(12, 1, 3, 3), "b": w(12)})
    yield "conv_same_upper", net([op("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": w(2, 6, 4, 4)})
    yield "conv_same_lower", net([op("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2])], {"w": w(2, 6, 4, 4)})
    bn = {"g": w(4) + 1, "beta": w(4, seed=1), "mean": w(4, seed=2), "var": np.abs(w(4, seed=3)) + 0.5}
    yield "conv_batchnorm_relu", net(
        [op("Conv", "x w b", "c"), op("BatchNormalization", "c g beta mean var", "n", epsilon=1e-3), op("Relu", "n")],
        {"w": w(4, 6, 3, 3), "b": w(4), **bn},
    )
    yield "batchnorm_features", net([op("BatchNormalization", "x g beta mean var")], bn, x=[1, 4])
    yield "conv_clip_transposed_weights", net(
        [op("Transpose", "w", "wt", perm=[3, 2, 0, 1]), op("Conv", "x wt", "c"), op("Clip", "c lo hi")],
        {"w": w(3, 3, 6, 4), "lo": f32(0)[0], "hi": f32(6)[0]},
    )

    # Matrix products.
    yield "gemm", net([op("Gemm", "x w b", alpha=0.5, beta=2.0)], {"w": w(6, 4), "b": w(4)}, x=[1, 6])
    yield "gemm_transposed", net([op("Gemm", "x w b", transB=1)], {"w": w(4, 6), "b": w(1)}, x=[1, 6])
    yield "matmul_add", net([op("MatMul", "x w", "m"), op("Add", "m b")], {"w": w(6, 4), "b": w(4)}, x=[1, 6])
    yield "matmul_rows", net([op("MatMul", "x w")], {"w": w(6, 4)}, x=[1, 3, 6])
    yield "matmul_image", net([op("MatMul", "x w")], {"w": w(4, 3)})

    # Element by element.
    yield "add", net([op("Tanh", "x", "y"), op("Add", "x y")])
    yield "add_channels", net([op("Add", "x c")], {"c": w(6, 1, 1)})
    yield "add_columns", net([op("Add", "c x")], {"c": w(4)})
    yield "mul_channels", net([op("Mul", "c x")], {"c": w(1, 6, 1, 1)})
    yield "mul_scalar", net([op("Mul", "x c")], {"c": f32(1.5)[0]})
    yield "sub_activations", net([op("Tanh", "x", "y"), op("Sub", "x y")])
    yield "sub_constant", net([op("Sub", "x c")], {"c": w(6, 1, 1)})
    yield "sub_from_constant", net([op("Sub", "c x")], {"c": f32(1)})
    yield "div_constant", net([op("Div", "x c", "d"), op("Neg", "d")], {"c": f32(3)})
    yield "min_max", net([op("Min", "x hi", "a"), op("Max", "a lo")], {"lo": f32(-1)[0], "hi": f32(0.5)[0]})
    yield "clip_old", net([op("Clip", "x", min=0.0, max=1.0)], opset=6)
    for kind, attributes in [
        ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("Tanh", {}), ("HardSwish", {}),
        ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}), ("Identity", {}),
    ]:
        yield kind.lower(), net([op(kind, "x", **attributes)])
    yield "hard_swish_written_out", net(
        [op("Add", "x three", "a"), op("Clip", "a lo hi", "b"), op("Mul", "x b", "c"), op("Div", "c hi")],
        {"three": f32(3)[0], "lo": f32(0)[0], "hi": f32(6)[0]},
    )
    yield "hard_swish_gated", net([op("HardSigmoid", "x", "a", alpha=1 / 6, beta=0.5), op("Mul", "a x")])
    yield "prelu_uniform", net([op("PRelu", "x s")], {"s": np.full((6, 1, 1), 0.3, np.float32)})
    yield "softmax", net([op("Softmax", "x")], x=[1, 9])
    yield "softmax_channels", net([op("Softmax", "x", axis=1)])
    yield "softmax_old", net([op("Softmax", "x")], x=[1, 9], opset=11)

    # Space.
    yield "concat_channels", net([op("Conv", "x w", "y"), op("Concat", "x y", axis=1)], {"w": w(3, 6, 1, 1)})
    yield "concat_columns", net([op("Tanh", "x", "y"), op("Concat", "x y x", axis=-1)])
    yield "pad", net([op("Pad", "x p")], {"p": i64(0, 0, 1, 2, 0, 0, 0, 3)})
    yield "pad_conv", net([op("Pad", "x p", "q"), op("Conv", "q w")], {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "w": w(4, 6, 3, 3)})
    yield "avgpool", net([op("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])])
    yield "avgpool_counting", net([op("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1)])
    yield "avgpool_ceil", net([op("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)])
    yield "maxpool", net([op("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])])
    yield "maxpool_ceil", net([op("MaxPool", "x", kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1)])
    yield "maxpool_same", net([op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")])
    yield "relu_pad_maxpool", net(
        [op("Relu", "x", "r"), op("Pad", "r p", "q"), op("MaxPool", "q", kernel_shape=[3, 3], strides=[2, 2])],
        {"p": i64(0, 0, 1, 1, 0, 0, 1, 1)},
    )
    yield "global_avgpool", net([op("GlobalAveragePool", "x")])
    yield "global_maxpool", net([op("GlobalMaxPool", "x")])
    yield "reduce_mean", net([op("ReduceMean", "x", axes=[2, 3], keepdims=0)])
    yield "reduce_mean_keep", net([op("ReduceMean", "x a")], {"a": i64(-1, -2)}, opset=18)
    yield "reduce_mean_rows", net([op("ReduceMean", "x", axes=[1, 2])])
    yield "depth_to_space", net([op("DepthToSpace", "x", blocksize=2)], x=[1, 8, 3, 2])
    yield "depth_to_space_crd", net([op("DepthToSpace", "x", blocksize=2, mode="CRD")], x=[1, 8, 3, 2])
    sizes = {
        "up": i64(1, 3, 8, 10), "down": i64(1, 3, 3, 2),
    }
    for mode, coordinates, nearest in [
        ("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "half_pixel", "round_prefer_ceil"), ("nearest", "asymmetric", "ceil"),
        ("nearest", "align_corners", "round_prefer_floor"),
        ("linear", "half_pixel", "floor"), ("linear", "asymmetric", "floor"), ("linear", "align_corners", "floor"),
    ]:
        for direction, size in sizes.items():
            name = f"resize_{mode}_{coordinates}" + (f"_{nearest}" if mode == "nearest" else "") + f"_{direction}"
            yield name, net(
                [op("Resize", "x   s", mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=nearest)],
                {"s": size}, x=[1, 3, 4, 5],
            )
    yield "resize_scales", net([op("Resize", "x  s", mode="nearest")], {"s": f32(1, 1, 2, 3)}, x=[1, 3, 4, 5])
    yield "upsample", net([op("Upsample", "x s", mode="linear")], {"s": f32(1, 1, 2, 2)}, x=[1, 3, 4, 5], opset=9)

    # Shapes.
    yield "flatten_gemm", net([op("Flatten", "x", "f"), op("Gemm", "f w b")], {"w": w(120, 3), "b": w(3)})
    yield "reshape_computed", net(
        [
            op("Shape", "x", "s"), op("Gather", "s zero", "n", axis=0), op("Unsqueeze", "n axes", "n1"),
            op("Concat", "n1 minus", "t", axis=0), op("Reshape", "x t", "f"), op("MatMul", "f w"),
        ],
        {"zero": np.array(0, np.int64), "axes": i64(0), "minus": i64(-1), "w": w(120, 3)},
    )
    yield "squeeze", net([op("GlobalAveragePool", "x", "g"), op("Squeeze", "g a")], {"a": i64(2, 3)})
    yield "unsqueeze", net([op("Unsqueeze", "x a", "u"), op("Relu", "u")], {"a": i64(2)}, x=[1, 4, 3])
    yield "reshape_to_image", net([op("Reshape", "x s", "r"), op("Conv", "r w")], {"s": i64(0, 2, 3, 4), "w": w(3, 2, 2, 2)}, x=[1, 24])
    yield "reshape_split_channels", net([op("Reshape", "x s")], {"s": i64(1, 3, 40)})
    yield "transpose_rows", net([op("Transpose", "x", perm=[0, 2, 1])], x=[1, 3, 5])
    yield "nhwc_conv", net(
        [op("Transpose", "x", "t", perm=[0, 3, 1, 2]), op("Conv", "t w", "c"), op("Transpose", "c", perm=[0, 2, 3, 1], name="back")],
        {"w": w(4, 4, 3, 3)},
    )
    yield "dropout_cast_expand", net(
        [op("Dropout", "x", "d"), op("Cast", "d", "e", to=TensorProto.FLOAT), op("Expand", "e s", "f"), op("Relu", "f")],
        {"s": i64(1, 1, 1, 1)},
    )
    yield "two_outputs", net([op("Relu", "x"), op("Tanh", "x", "t")], outputs=("z", "t"))

    # Quantised in float: QDQ pairs, whose rounding the float graph leaves out.
    scales = (np.abs(w(4)) * 0.01 + 0.01).astype(np.float32)
    codes = np.random.default_rng(5).integers(-127, 128, (4, 6, 3, 3)).astype(np.int8)
    yield "qdq_conv_weights", net(
        [op("DequantizeLinear", "q s z0", "w", axis=0), op("DequantizeLinear", "bq bs", "b", axis=0), op("Conv", "x w b")],
        {"q": codes, "s": scales, "z0": np.zeros(4, np.int8), "bq": np.array([5, -9, 100, 0], np.int32), "bs": scales},
    )

    # Codes of 16 bits, so fine that the rounding does not show.
    yield "qdq_activations", net(
        [
            op("QuantizeLinear", "x s zp", "q"), op("DequantizeLinear", "q s zp", "d"), op("Tanh", "d", "t"),
            op("QuantizeLinear", "t s zp", "r"), op("DequantizeLinear", "r s zp"),
        ],
        {"s": f32(1e-4)[0], "zp": np.int16(0)}, opset=21,
    )

    # Small nets.
    yield "inverted_residual", net(
        [
            op("Conv", "x w1 b1", "a", "expand"), op("Clip", "a lo hi", "b"),
            op("Conv", "b w2 b2", "c", "depthwise", group=12, pads=[1, 1, 1, 1]), op("Clip", "c lo hi", "d"),
            op("Conv", "d w3 b3", "e", "project"), op("Add", "x e", "f"),
            op("GlobalAveragePool", "f", "g"), op("Flatten", "g", "h"), op("Gemm", "h w4 b4", "l", "head", transB=1),
            op("Softmax", "l"),
        ],
        {
            "w1": w(12, 6, 1, 1), "b1": w(12), "w2": w(12, 1, 3, 3), "b2": w(12), "w3": w(6, 12, 1, 1), "b3": w(6),
            "w4": w(3, 6), "b4": w(3), "lo": f32(0)[0], "hi": f32(6)[0],
        },
    )


# TensorFlow Lite: flatbuffers from the schema's own Python classes.


class Tfl:
    """One subgraph in the making."""

    def __init__(self):
        self.model = tfl.ModelT()
        self.model.version = 3
        self.model.description = "Pare's golden"
        self.model.operatorCodes, self.model.buffers = [], [tfl.BufferT()]
        graph = self.graph = tfl.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self.model.subgraphs = [graph]

    def tensor(self, shape, kind="FLOAT32", data=None, scale=None, zero=0, axis=0, name=None):
        tensor = tfl.TensorT()
        tensor.name = name or f"t{len(self.graph.tensors)}"
        tensor.shape, tensor.type, tensor.buffer = list(shape), getattr(tfl.TensorType, kind), 0
        if data is not None:
            tensor.buffer = len(self.model.buffers)
            buffer = tfl.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
        if scale is not None:
            scale = np.atleast_1d(np.float32(scale))
            quantisation = tfl.QuantizationParametersT()
            quantisation.scale = scale
            quantisation.zeroPoint = np.full(len(scale), zero, np.int64)
            quantisation.quantizedDimension = axis
            tensor.quantization = quantisation
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def input(self, shape, **more):
        index = self.tensor(shape, **more)
        self.graph.inputs.append(index)
        return index

    def constant(self, data, **more):
        data = np.asarray(data)
        kinds = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "int8": "INT8", "int64": "INT64"}
        return self.tensor(data.shape, kinds[data.dtype.name], data, **more)

    def op(self, operator_kind, inputs, shape, options=None, **more):
        code = tfl.OperatorCodeT()
        code.builtinCode = getattr(tfl.BuiltinOperator, operator_kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        operator = tfl.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        output = self.tensor(shape, **more)
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            operator.builtinOptionsType = getattr(tfl.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.graph.operators.append(operator)
        return output

    def done(self, *outputs):
        self.graph.outputs = list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def options(kind, **fields):
    table = getattr(tfl, f"{kind}OptionsT")()
    for key, value in fields.items():
        assert hasattr(table, key), (kind, key)
        setattr(table, key, value)
    return table


def single(kind, shape, out, more=(), table=None):
    """A model of one operator on one input."""
    net = Tfl()
    x = net.input(shape)
    constants = [net.constant(data) for data in more]
    return net.done(net.op(kind, [x, *constants], out, table))


def tflite_models():
    w = weights
    SAME, VALID = tfl.Padding.SAME, tfl.Padding.VALID
    RELU, RELU6, CLIP = (getattr(tfl.ActivationFunctionType, name) for name in ("RELU", "RELU6", "RELU_N1_TO_1"))
    image = [1, 7, 5, 6]
    conv = lambda padding, stride=1, dilation=1, activation=0: options(
        "Conv2D", padding=padding, strideH=stride, strideW=1, dilationHFactor=dilation, dilationWFactor=1,
        fusedActivationFunction=activation)
    i32 = lambda *values: np.array(values, np.int32)

    yield "conv_same", single("CONV_2D", image, [1, 4, 5, 4], [w(4, 3, 2, 6), w(4)], conv(SAME, 2, 1, RELU))
    yield "conv_valid", single("CONV_2D", image, [1, 5, 4, 4], [w(4, 3, 2, 6), w(4)], conv(VALID, 1, 1, RELU6))
    yield "conv_dilated", single("CONV_2D", image, [1, 7, 5, 4], [w(4, 3, 2, 6), w(4)], conv(SAME, 1, 2, CLIP))
    depthwise = lambda multiplier, stride: options(
        "DepthwiseConv2D", padding=SAME, strideH=stride, strideW=stride, depthMultiplier=multiplier,
        dilationHFactor=1, dilationWFactor=1)
    yield "depthwise", single("DEPTHWISE_CONV_2D", image, [1, 4, 3, 6], [w(1, 3, 3, 6), w(6)], depthwise(1, 2))
    yield "depthwise_x2", single("DEPTHWISE_CONV_2D", image, [1, 7, 5, 12], [w(1, 3, 3, 12), w(12)], depthwise(2, 1))
    dense = options("FullyConnected", fusedActivationFunction=RELU)
    yield "fully_connected", single("FULLY_CONNECTED", [1, 6], [1, 4], [w(4, 6), w(4)], dense)
    yield "fully_connected_image", single("FULLY_CONNECTED", [1, 2, 3, 1], [1, 4], [w(4, 6), w(4)], options("FullyConnected"))
    yield "fully_connected_rows", single("FULLY_CONNECTED", [1, 3, 6], [1, 3, 4], [w(4, 6), w(4)], options("FullyConnected", keepNumDims=True))

    def joined(kind, shape, table):
        net = Tfl()
        x = net.input(image)
        y = net.op("TANH", [x], image)
        return net.done(net.op(kind, [x, y], shape, table))

    yield "add", joined("ADD", image, options("Add", fusedActivationFunction=RELU))
    yield "sub_activations", joined("SUB", image, options("Sub"))
    yield "concat", joined("CONCATENATION", [1, 7, 5, 12], options("Concatenation", axis=-1))
    yield "add_channels", single("ADD", image, image, [w(6)], options("Add", fusedActivationFunction=CLIP))
    yield "sub_constant", single("SUB", image, image, [w(1, 1, 1, 6)], options("Sub", fusedActivationFunction=RELU6))
    yield "mul_constant", single("MUL", image, image, [w(6)], options("Mul", fusedActivationFunction=RELU))
    yield "div_constant", single("DIV", image, image, [np.float32(3)], options("Div"))
    net = Tfl()
    c, x = net.constant(w(6)), net.input(image)
    yield "sub_from_constant", net.done(net.op("SUB", [c, x], image, options("Sub")))

    pool = lambda padding, h, wdt, stride: options(
        "Pool2D", padding=padding, strideH=stride, strideW=stride, filterHeight=h, filterWidth=wdt)
    yield "avgpool_same", single("AVERAGE_POOL_2D", image, [1, 4, 3, 6], [], pool(SAME, 3, 3, 2))
    yield "avgpool_valid", single("AVERAGE_POOL_2D", image, [1, 1, 1, 6], [], pool(VALID, 7, 5, 2))
    yield "maxpool_same", single("MAX_POOL_2D", image, [1, 4, 3, 6], [], pool(SAME, 2, 2, 2))
    yield "maxpool_valid", single("MAX_POOL_2D", image, [1, 6, 4, 6], [], pool(VALID, 2, 2, 1))
    yield "mean", single("MEAN", image, [1, 6], [i32(1, 2)], options("Reducer", keepDims=False))
    yield "mean_keep", single("MEAN", image, [1, 1, 1, 6], [i32(2, 1)], options("Reducer", keepDims=True))
    yield "pad", single("PAD", image, [1, 10, 6, 6], [np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)], options("Pad"))
    yield "transpose", single("TRANSPOSE", image, [1, 5, 7, 6], [i32(0, 2, 1, 3)], options("Transpose"))
    yield "reshape", single("RESHAPE", image, [1, 35, 6], [i32(1, -1, 6)], options("Reshape", newShape=[1, -1, 6]))
    yield "squeeze", single("SQUEEZE", [1, 1, 5, 6], [1, 5, 6], [], options("Squeeze", squeezeDims=[1]))
    yield "expand_dims", single("EXPAND_DIMS", [1, 5, 6], [1, 1, 5, 6], [i32(1)[0]], options("ExpandDims"))
    yield "depth_to_space", single("DEPTH_TO_SPACE", [1, 3, 2, 8], [1, 6, 4, 2], [], options("DepthToSpace", blockSize=2))
    for name, kind, table in [("bilinear", "RESIZE_BILINEAR", "ResizeBilinear"), ("nearest", "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")]:
        for way, flags in [("asymmetric", {}), ("corners", {"alignCorners": True}), ("centres", {"halfPixelCenters": True})]:
            for direction, size in [("up", i32(9, 11)), ("down", i32(3, 2))]:
                yield f"resize_{name}_{way}_{direction}", single(kind, image, [1, *size, 6], [size], options(table, **flags))

    for name, kind, table in [
        ("relu", "RELU", None), ("relu6", "RELU6", None), ("relu_n1_to_1", "RELU_N1_TO_1", None),
        ("leaky_relu", "LEAKY_RELU", options("LeakyRelu", alpha=0.2)), ("logistic", "LOGISTIC", None),
        ("tanh", "TANH", None), ("hard_swish", "HARD_SWISH", options("HardSwish")),
        ("softmax", "SOFTMAX", options("Softmax", beta=0.5)), ("relu_0_to_1", "RELU_0_TO_1", None),
    ]:
        yield name, single(kind, image, image, [], table)
    yield "prelu_uniform", single("PRELU", image, image, [np.full((1, 1, 6), 0.3, np.float32)])

    net = Tfl()
    x, half = net.input([1, 6]), net.constant(w(4, 6).astype(np.float16))
    full = net.op("DEQUANTIZE", [half], [4, 6], options("Dequantize"))
    yield "float16_weights", net.done(net.op("FULLY_CONNECTED", [x, full, net.constant(w(4))], [1, 4], options("FullyConnected")))

    # float -> int8 -> float, weights for each channel.
    net = Tfl()
    x = net.input(image)
    q = net.op("QUANTIZE", [x], image, options("Quantize"), kind="INT8", scale=4 / 255, zero=0)
    rng = np.random.default_rng(7)
    kernel = net.constant(rng.integers(-127, 128, (4, 3, 3, 6)).astype(np.int8), scale=[0.01, 0.02, 0.005, 0.015])
    bias = net.constant(np.array([100, -50, 0, 7], np.int32), scale=np.float32(4 / 255) * np.float32([0.01, 0.02, 0.005, 0.015]))
    z = net.op("CONV_2D", [q, kernel, bias], [1, 7, 5, 4], conv(SAME, 1, 1, RELU), kind="INT8", scale=0.2, zero=-128)
    yield "int8_conv", net.done(net.op("DEQUANTIZE", [z], [1, 7, 5, 4], options("Dequantize")))


if __name__ == "__main__":
    main()
