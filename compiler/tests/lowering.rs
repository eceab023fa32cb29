//! The integer network against the fake-quantised float network: every operator and its corners, every
//! family of weight formats, wide and narrow activations, both weight layouts, every instruction set.
//!
//! Instruction sets and layouts must agree to the byte. The float network computes the same codes up to
//! rounding ties: real sums that lie halfway between two codes may fall either way. A code that fell the
//! other way inside the network moves what depends on it, so it is the share of differing output codes
//! that is bounded.

use std::collections::BTreeMap;

use pare::board::host::Host;
use pare::board::{AlignedBytes, Board};
use pare::deploy::{deploy, draft};
use pare::eval::Net;
use pare::ir::text::parse_with;
use pare::ir::{Graph, verify::verify};
use pare::lower::{Layouts, LowerConfig, Plan, Sums};
use pare::policy::{LayerPolicy, Policy, WeightChoice, WeightFormat};
use pare::quant::{BiasCorrection, CalibrationConfig, ClipMethod, CodeBank, QuantConfig, Rounding, calibrate};
use pare_runtime::format::Layout;
use pare_runtime::{Isa, Model};

const SAMPLES: usize = 40;

/// Codes that may differ from the float network's, of all output codes.
#[derive(Clone, Copy)]
struct Tolerance {
    /// Share of codes that differ at all.
    share: f64,
    /// Share of codes that differ by more than one step.
    far: f64,
}

/// Not one: the simulation is of these integers.
const EXACT: Tolerance = Tolerance { share: 0.0, far: 0.0 };

/// Constants a channel, and the weights and biases of channels that are nearly dead, become integers with steps of their own.
const CONSTANTS: Tolerance = Tolerance { share: 0.01, far: 0.002 };

/// A pool's window that reaches into padding: its sum is rounded once more, when it is brought to the full window.
const PADDED_POOL: Tolerance = Tolerance { share: 0.1, far: 0.1 };

/// The blob's weights have 8 bits: a real position between two pixels is off by up to 1/512 of their difference.
const BILINEAR: Tolerance = Tolerance { share: 0.15, far: 0.04 };

/// Elements that may be off whatever the share: small outputs have few.
const FEW: f64 = 2.0;

#[test]
fn convolutions() {
    for (geometry, shape, weights) in [
        ("stride=[1, 1]", "[1, 7, 6, 20]", "[20, 1, 1, 5]"),
        ("pad=[1, 1, 1, 1] clamp=[0.0, inf]", "[1, 7, 6, 20]", "[20, 3, 3, 5]"),
        ("stride=[2, 3] pad=[0, 1, 2, 0]", "[1, 4, 2, 9]", "[9, 2, 3, 5]"),
        ("dilation=[2, 1] pad=[2, 2, 0, 0] clamp=[0.0, 0.3]", "[1, 7, 4, 17]", "[17, 3, 3, 5]"),
        ("dilation=[1, 2] pad=[1, 0, 3, 1]", "[1, 6, 6, 4]", "[4, 3, 3, 5]"),
        ("stride=[3, 3]", "[1, 3, 2, 33]", "[33, 1, 1, 5]"),
        ("groups=5 pad=[1, 1, 1, 1]", "[1, 7, 6, 5]", "[5, 3, 3, 1]"),
        ("groups=5 stride=[2, 2] pad=[0, 1, 0, 1] clamp=[-0.2, 0.5]", "[1, 3, 3, 5]", "[5, 3, 3, 1]"),
        ("groups=5 dilation=[2, 2] pad=[2, 2, 2, 2]", "[1, 7, 6, 5]", "[5, 3, 3, 1]"),
        ("groups=5 pad=[1, 1, 1, 1]", "[1, 7, 6, 15]", "[15, 3, 3, 1]"),
    ] {
        sandwich(&format!("conv2d(%a, %w) {geometry}"), "[1, 7, 6, 5]", shape, &format!("const %w: {weights}\n"));
    }
    sandwich(
        "conv2d(%a, %w, %b) groups=3 pad=[1, 1, 1, 1]",
        "[1, 5, 5, 6]",
        "[1, 5, 5, 9]",
        "const %w: [9, 3, 3, 2]\nconst %b: [9]\n",
    );
    sandwich(
        "conv2d(%a, %w, %b) groups=40 pad=[1, 1, 1, 1] clamp=[0.0, 6.0]",
        "[1, 5, 5, 40]",
        "[1, 5, 5, 40]",
        "const %w: [40, 3, 3, 1]\nconst %b: [40]\n",
    );
}

#[test]
fn fully_connected_of_any_rank() {
    for (input, output) in [("[1, 37]", "[1, 19]"), ("[1, 6, 37]", "[1, 6, 19]"), ("[1, 2, 3, 37]", "[1, 2, 3, 19]")] {
        let constants = "const %w: [19, 37]\nconst %b: [19]\n";
        sandwich("fully_connected(%a, %w, %b) clamp=[0.0, inf]", input, output, constants);
    }
}

#[test]
fn sums_and_products() {
    for operator in ["add(%a, %x)", "add(%x, %a) clamp=[0.0, 0.8]", "add(%a, %a)"] {
        within(EXACT, &graph_of(operator, "[1, 4, 3, 6]", "[1, 4, 3, 6]", ""));
        within(EXACT, &graph_of(operator, "[1, 18]", "[1, 18]", ""));
    }
    for operator in ["add(%a, %k) clamp=[0.0, inf]", "mul(%a, %k)"] {
        for k in ["[] = [-1.7]", "[1] = [0.3]", "[6] = [0.5, -2.0, 0.0, 1.0, 0.01, -0.3]"] {
            for shape in ["[1, 4, 3, 6]", "[1, 6]", "[1, 4, 6]"] {
                within(CONSTANTS, &graph_of(operator, shape, shape, &format!("const %k: {k}\n")));
            }
        }
    }
}

#[test]
fn element_wise_functions() {
    for operator in [
        "clamp(%a) clamp=[-0.2, 0.4]",
        "leaky_relu(%a) alpha=0.1",
        "sigmoid(%a)",
        "tanh(%a)",
        "hard_sigmoid(%a) alpha=0.2 beta=0.5",
        "hard_swish(%a)",
    ] {
        sandwich(operator, "[1, 4, 3, 6]", "[1, 4, 3, 6]", "");
    }
}

#[test]
fn concats() {
    sandwich("concat(%a, %x) axis=3", "[1, 4, 3, 6]", "[1, 4, 3, 12]", "");
    sandwich("concat(%x, %a, %x, %a) axis=2", "[1, 4, 3, 6]", "[1, 4, 12, 6]", "");
    sandwich("concat(%a, %a) axis=1", "[1, 4, 3, 6]", "[1, 8, 3, 6]", "");
    sandwich("concat(%a, %x) axis=1", "[1, 9]", "[1, 18]", "");
    sandwich("concat(%a, %x) axis=2", "[1, 5, 3]", "[1, 5, 6]", "");
}

#[test]
fn moves() {
    sandwich("pad(%a) pads=[0, 0, 1, 2, 0, 3, 0, 0]", "[1, 4, 3, 6]", "[1, 7, 6, 6]", "");
    sandwich("pad(%a) pads=[0, 0, 0, 0, 1, 0, 2, 3]", "[1, 4, 3, 6]", "[1, 4, 4, 11]", "");
    sandwich("pad(%a) pads=[0, 0, 2, 1]", "[1, 6]", "[1, 9]", "");
    sandwich("reshape(%a)", "[1, 4, 3, 6]", "[1, 72]", "");
    sandwich("reshape(%a)", "[1, 72]", "[1, 4, 9, 2]", "");
    for (perm, output) in [("0, 2, 1, 3", "3, 4, 6"), ("0, 3, 1, 2", "6, 4, 3"), ("0, 2, 3, 1", "3, 6, 4")] {
        sandwich(&format!("transpose(%a) perm=[{perm}]"), "[1, 4, 3, 6]", &format!("[1, {output}]"), "");
    }
    sandwich("transpose(%a) perm=[0, 2, 1]", "[1, 4, 6]", "[1, 6, 4]", "");
    sandwich("depth_to_space(%a) block=2 order=block_first", "[1, 3, 2, 8]", "[1, 6, 4, 2]", "");
    sandwich("depth_to_space(%a) block=2 order=channel_first", "[1, 3, 2, 8]", "[1, 6, 4, 2]", "");
}

#[test]
fn pools() {
    for (window, output) in [
        ("kernel=[2, 2] stride=[2, 2]", "[1, 3, 2, 6]"),
        ("kernel=[3, 3] pad=[1, 1, 1, 1] clamp=[-0.1, 0.3]", "[1, 6, 5, 6]"),
        ("kernel=[3, 2] stride=[2, 3] pad=[0, 1, 1, 0]", "[1, 3, 2, 6]"),
        ("kernel=[6, 5]", "[1, 1, 1, 6]"),
    ] {
        sandwich(&format!("max_pool(%a) {window}"), "[1, 6, 5, 6]", output, "");
        let tolerance = if window.contains("pad") { PADDED_POOL } else { EXACT };
        within(tolerance, &graph_of(&format!("avg_pool(%a) {window}"), "[1, 6, 5, 6]", output, ""));
    }
}

#[test]
fn resizes() {
    for coordinates in ["asymmetric", "half_pixel", "align_corners"] {
        for output in ["[1, 9, 7, 3]", "[1, 3, 2, 3]", "[1, 1, 1, 3]", "[1, 12, 10, 3]"] {
            for rounding in ["floor", "half_up", "half_down", "ceil"] {
                let mode = format!("resize(%a) mode=nearest_{rounding} coordinates={coordinates}");
                sandwich(&mode, "[1, 6, 5, 3]", output, "");
            }
            let mode = format!("resize(%a) mode=bilinear coordinates={coordinates}");
            within(BILINEAR, &graph_of(&mode, "[1, 6, 5, 3]", output, ""));
        }
    }
}

#[test]
fn softmaxes() {
    // Both round to 1/256 once; the integer exponential is good to 20 bits.
    sandwich("softmax(%a)", "[1, 10]", "[1, 10]", "");
    sandwich("softmax(%a)", "[1, 3, 2, 12]", "[1, 3, 2, 12]", "");
}

#[test]
fn graphs_of_unusual_form() {
    for text in [
        // Two outputs, one of which is read again; an output that is a reshape of another value.
        "graph outputs\ninput %x: [1, 4, 4, 6]\nconst %w: [6, 3, 3, 6]\nconst %v: [5, 96]\n\
         %a: [1, 4, 4, 6] = conv2d(%x, %w) pad=[1, 1, 1, 1]\n%s: [1, 4, 4, 6] = add(%a, %x)\n\
         %r: [1, 96] = reshape(%s)\n%y: [1, 5] = fully_connected(%r, %v)\noutput %s\noutput %y\noutput %r\n",
        // The input is an output, and so is its reshape.
        "graph input_out\ninput %x: [1, 4, 4]\n%r: [1, 16] = reshape(%x)\n%t: [1, 16] = tanh(%r)\n\
         %u: [1, 4, 4] = sigmoid(%x)\noutput %x\noutput %r\noutput %t\noutput %u\n",
        // Nothing but an input, given back; and one that nobody reads.
        "graph nothing\ninput %x: [1, 4]\ninput %z: [1, 3]\noutput %x\n",
        // A value added to itself through reshapes that undo each other.
        "graph self_sum\ninput %x: [1, 4, 3]\n%a: [1, 4, 3] = tanh(%x)\n%f: [1, 12] = reshape(%a)\n\
         %g: [1, 4, 3] = reshape(%f)\n%y: [1, 4, 3] = add(%a, %g)\noutput %y\n",
        // Two inputs; sums that can be taken in place on either side, and one that cannot.
        "graph sums\ninput %x: [1, 3, 3, 4]\ninput %z: [1, 3, 3, 4]\n%a: [1, 3, 3, 4] = add(%x, %z)\n\
         %b: [1, 3, 3, 4] = tanh(%a)\n%c: [1, 3, 3, 4] = add(%a, %b)\n%d: [1, 3, 3, 4] = add(%b, %c)\n\
         %e: [1, 3, 3, 4] = add(%d, %d)\n%f: [1, 3, 3, 4] = add(%e, %z)\noutput %f\noutput %d\n",
        // The same output twice, and a node that no output needs.
        "graph twice\ninput %x: [1, 8]\n%a: [1, 8] = tanh(%x)\n%b: [1, 8] = sigmoid(%x)\noutput %a\noutput %a\n",
        // An inverted bottleneck with a residual, and a head.
        "graph bottleneck\ninput %x: [1, 6, 6, 8]\nconst %w1: [24, 1, 1, 8]\nconst %b1: [24]\nconst %w2: [24, 3, 3, 1]\n\
         const %w3: [8, 1, 1, 24]\nconst %w4: [4, 8]\nconst %b4: [4]\n\
         %e: [1, 6, 6, 24] = conv2d(%x, %w1, %b1) clamp=[0.0, 6.0]\n\
         %d: [1, 6, 6, 24] = conv2d(%e, %w2) groups=24 pad=[1, 1, 1, 1] clamp=[0.0, 6.0]\n\
         %p: [1, 6, 6, 8] = conv2d(%d, %w3)\n%s: [1, 6, 6, 8] = add(%p, %x)\n\
         %g: [1, 1, 1, 8] = avg_pool(%s) kernel=[6, 6]\n%f: [1, 8] = reshape(%g)\n\
         %l: [1, 4] = fully_connected(%f, %w4, %b4)\n%y: [1, 4] = softmax(%l)\noutput %y\n",
    ] {
        within(EXACT, &parse(text));
    }
}

/// A sum of a convolution and what is there before it and not read after.
#[test]
fn sums_become_part_of_convolutions() {
    let map = "[1, 32, 8, 16]";
    let conv = |to: &str, from: &str| format!("%{to}: {map} = conv2d(%{from}, %w) pad=[1, 1, 1, 1]\n");
    let sum = |to: &str, a: &str, b: &str| format!("%{to}: {map} = add(%{a}, %{b})\n");
    let tanh = |to: &str, from: &str| format!("%{to}: {map} = tanh(%{from})\n");
    let plans = |nodes: &[String], outputs: &str| {
        let text = nodes.concat();
        let graph = parse(&format!("graph sums\ninput %x: {map}\nconst %w: [16, 3, 3, 16]\n{text}{outputs}"));
        let lowered = |sums| {
            let config = LowerConfig { sums, ..LowerConfig::new(Layout::Plain) };
            draft(&graph, &Policy::default(), &config).unwrap()
        };
        [lowered(Sums::Apart), lowered(Sums::Fused)]
    };
    let fused = |plans: &[Plan; 2]| plans[1].sums().count();
    let block = [conv("a", "x"), conv("b", "a"), conv("c", "b")];
    // The usual residual, on either side: three maps become two.
    for (a, b) in [("c", "a"), ("a", "c")] {
        let plans = plans(&[&block[..], &[sum("s", a, b)]].concat(), "output %s\n");
        assert_eq!((fused(&plans), plans[0].layers.len(), plans[1].layers.len()), (1, 4, 3));
        assert_eq!(plans[0].tensors.len() - plans[1].tensors.len(), 1);
        assert!(plans[1].arena_bytes + 512 < plans[0].arena_bytes);
    }
    // Of two convolutions the later one adds, to what the other gave; the input may be added to as well.
    assert_eq!(fused(&plans(&[conv("a", "x"), conv("b", "a"), conv("c", "a"), sum("s", "b", "c")], "output %s\n")), 1);
    assert_eq!(fused(&plans(&[conv("a", "x"), conv("b", "a"), sum("s", "b", "x")], "output %s\n")), 1);
    // The convolution reads what it would add to; its result or the other operand is read again, or an output.
    for (last, outputs) in [
        (vec![sum("s", "b", "c")], "output %s\n"),
        (vec![sum("s", "c", "a"), tanh("t", "c")], "output %s\noutput %t\n"),
        (vec![sum("s", "c", "a"), tanh("t", "a")], "output %s\noutput %t\n"),
        (vec![sum("s", "c", "a")], "output %s\noutput %c\n"),
        (vec![sum("s", "c", "a")], "output %s\noutput %a\n"),
        // Something is made of the other operand in between, in place or not.
        (vec![tanh("t", "a"), sum("s", "c", "t")], "output %s\n"),
        (vec![tanh("t", "a"), sum("s", "c", "a"), sum("u", "s", "t")], "output %u\n"),
    ] {
        let plans = plans(&[&block[..], &last].concat(), outputs);
        assert_eq!((fused(&plans), plans[1].layers.len()), (0, plans[0].layers.len()), "{last:?} {outputs}");
        assert_eq!(plans[1].arena_bytes, plans[0].arena_bytes);
    }
}

/// Folding a batch norm can leave weights so small that the bias, counted in their steps, leaves 32 bits.
#[test]
fn nearly_dead_channels() {
    let text = "graph dying\ninput %x: [1, 3, 3, 4]\nconst %w: [4, 1, 1, 4] = [1e-9, -1e-9, 2e-9, 1e-9, \
                0, 0, 0, 0, 0.5, -0.5, 0.25, 1.0, 1e-6, 2e-6, -1e-6, 1e-6]\nconst %b: [4] = [0.72, -0.4, 0.1, -0.6]\n\
                %a: [1, 3, 3, 4] = leaky_relu(%x) alpha=0.7\n%y: [1, 3, 3, 4] = conv2d(%a, %w, %b)\noutput %y\n";
    within(CONSTANTS, &parse(text));
}

#[test]
fn what_the_format_cannot_hold_is_an_error() {
    let operands = vec!["%x"; 256].join(", ");
    for (text, expected) in [
        (format!("input %x: [1, 2]\n%y: [1, 512] = concat({operands}) axis=1\n"), "too large"),
        ("input %x: [1, 2]\n%y: [1, 1, 1, 1, 2] = reshape(%x)\n".to_owned(), "dimensions beside the batch"),
        ("input %x: [1, 70000, 1]\n%y: [1, 70000, 1] = tanh(%x)\n".to_owned(), "65535"),
        (
            "input %x: [1, 600, 1, 1]\n%y: [1, 2, 1, 1] = max_pool(%x) kernel=[300, 1] stride=[300, 1]\n".to_owned(),
            "255",
        ),
    ] {
        let graph = parse(&format!("graph large\n{text}output %y\n"));
        let inputs = noise(graph.value(graph.inputs[0]).len(), 3);
        let calibration = calibrate(&graph, &inputs, 1, &CalibrationConfig::with_seed(0)).unwrap();
        let bank = CodeBank::new(&graph, &calibration, &config()).unwrap();
        let error = deploy(&bank, &Policy::default(), &LowerConfig::new(Layout::Plain), "").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The operator between two others, so that the policy's activation bits reach both its sides; inputs and
/// outputs of a network always have 8.
fn sandwich(operator: &str, input: &str, output: &str, constants: &str) {
    within(EXACT, &graph_of(operator, input, output, constants));
}

fn graph_of(operator: &str, input: &str, output: &str, constants: &str) -> Graph {
    let (name, _) = operator.split_once('(').unwrap();
    parse(&format!(
        "graph {name}\ninput %x: {input}\n%a: {input} = leaky_relu(%x) alpha=0.7\n{constants}\
         %o: {output} = {operator}\n%y: {output} = leaky_relu(%o) alpha=0.5\noutput %y\n"
    ))
}

fn parse(text: &str) -> Graph {
    let noise = |name: &str, shape: &[usize]| Ok(noise(shape.iter().product(), name.bytes().map(u64::from).sum()));
    let graph = parse_with(text, noise).unwrap_or_else(|error| panic!("{error}\n{text}"));
    verify(&graph).unwrap_or_else(|error| panic!("{error}\n{text}"));
    graph
}

fn within(tolerance: Tolerance, graph: &Graph) {
    let input_len: usize = graph.inputs.iter().map(|&v| graph.value(v).len()).sum();
    let inputs = noise(SAMPLES * input_len, 3);
    let calibration = calibrate(graph, &inputs, SAMPLES, &CalibrationConfig::with_seed(0)).unwrap();
    let bank = CodeBank::new(graph, &calibration, &config()).unwrap();
    for policy in policies(graph) {
        check(graph, &bank, &policy, &inputs, tolerance);
    }
}

fn config() -> QuantConfig {
    QuantConfig {
        clip: ClipMethod::MinMax,
        rounding: Rounding::Nearest,
        bias_correction: BiasCorrection::MeanInput,
        ..QuantConfig::USUAL
    }
}

/// One format for all channels, or a different one from channel to channel, at 8, 4 and 2 activation bits.
fn policies(graph: &Graph) -> Vec<Policy> {
    let formats = ["w8", "w4", "w2", "w1", "t", "k4", "w3"].map(|f| f.parse::<WeightFormat>().unwrap());
    let mixed = |channels: usize| {
        let of = |o: usize| formats[if o < channels / 2 { o % formats.len() } else { 2 }];
        WeightChoice::Channels((0..channels).map(of).collect())
    };
    let weighted = graph.weighted().count() > 0;
    let mut policies = Vec::new();
    for bits in [8, 4, 2] {
        for pick in 0..=if weighted { formats.len() } else { 0 } {
            let layer = |node: &pare::ir::Node| {
                let channels = node.inputs.get(1).map_or(0, |&w| graph.value(w).shape.first().copied().unwrap_or(0));
                let choice = formats.get(pick).map_or_else(|| mixed(channels), |&f| WeightChoice::Layer(f));
                let weights = node.op.has_weights().then_some(choice);
                (node.name.clone(), LayerPolicy { weights, activation_bits: bits, keep: None })
            };
            policies.push(Policy { layers: graph.nodes.iter().map(layer).collect::<BTreeMap<_, _>>() });
        }
    }
    policies
}

fn check(graph: &Graph, bank: &CodeBank<'_>, policy: &Policy, inputs: &[f32], tolerance: Tolerance) {
    let mut answer: Option<Vec<u8>> = None;
    let context = || format!("{graph}{}", serde_json::to_string(policy).unwrap());
    let [plain, panels, planes] = [Layout::Plain, Layout::Panels, Layout::Planes]
        .map(|layout| LowerConfig::new(layout).with(Layouts::All(layout)));
    let apart = LowerConfig { sums: Sums::Apart, ..panels.clone() };
    for config in [&plain, &panels, &planes, &apart] {
        let deployed = deploy(bank, policy, config, "{}").unwrap_or_else(|e| panic!("{e}\n{}", context()));
        let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
        let model = Model::parse(&blob).unwrap_or_else(|e| panic!("{e}\n{}", context()));
        let codes = encode(&model, inputs);
        for isa in Isa::available() {
            let found = Host::default().run(&blob, isa, &codes).unwrap_or_else(|e| panic!("{e}\n{}", context()));
            let answer = answer.get_or_insert_with(|| found.clone());
            assert!(*answer == found, "{config:?} {isa} differs\n{}", context());
        }
        if *config == panels {
            let net = Net::fake_quantized(&deployed.quantized).unwrap();
            let reals = net.forward(&decode_inputs(&model, &codes), SAMPLES).unwrap();
            compare(&model, &reals, answer.as_ref().unwrap(), tolerance, context);
        }
    }
}

fn compare(model: &Model<'_>, reals: &[f32], codes: &[u8], tolerance: Tolerance, context: impl Fn() -> String) {
    assert_eq!(reals.len(), codes.len());
    let tensors: Vec<_> = model.outputs().flat_map(|t| std::iter::repeat_n(t, t.shape.len())).collect();
    let expected = tensors.iter().cycle().zip(reals).map(|(tensor, &real)| tensor.encode(real));
    let distances: Vec<u8> = expected.zip(codes).map(|(expected, &code)| expected.abs_diff(code)).collect();
    let count = |least: u8| distances.iter().filter(|&&d| d >= least).count();
    let (all, any, far, most) = (distances.len(), count(1), count(2), distances.iter().max().unwrap());
    let allowed = |share: f64| if share > 0.0 { (share * all as f64).max(FEW) } else { 0.0 };
    let holds = any as f64 <= allowed(tolerance.share) && far as f64 <= allowed(tolerance.far);
    assert!(holds, "of {all} codes {any} differ, {far} by more than 1, at most by {most}\n{}", context());
}

/// The codes of every sample's inputs, one input after another.
fn encode(model: &Model<'_>, inputs: &[f32]) -> Vec<u8> {
    let tensors: Vec<_> = model.inputs().flat_map(|t| std::iter::repeat_n(t, t.shape.len())).collect();
    tensors.iter().cycle().zip(inputs).map(|(tensor, &x)| tensor.encode(x)).collect()
}

fn decode_inputs(model: &Model<'_>, codes: &[u8]) -> Vec<f32> {
    let tensors: Vec<_> = model.inputs().flat_map(|t| std::iter::repeat_n(t, t.shape.len())).collect();
    tensors.iter().cycle().zip(codes).map(|(tensor, &code)| tensor.decode(code)).collect()
}

/// Numbers in -1..1, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
