use super::*;
use crate::ir::text::parse_with;

/// A graph whose constants are waves.
fn graph(text: &str) -> Graph {
    parse_with(text, |name, shape| Ok(numbers(shape.iter().product(), name.len() as f32, 0.5))).unwrap()
}

fn numbers(n: usize, phase: f32, scale: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 1.7 + phase).sin() * scale).collect()
}

/// A smooth function of the outputs, and its gradient.
fn loss(outputs: &[f32]) -> (f64, Vec<f32>) {
    let weights = numbers(outputs.len(), 0.4, 1.0);
    let terms = outputs.iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w));
    (terms.sum(), weights)
}

/// Compares gradients with slopes, for some numbers of every parameter: that to the left, to the right, or
/// between both, as a corner of a clamp may lie on one side.
fn check(text: &str, norms: Norms, samples: usize) {
    let graph = graph(text);
    crate::ir::verify::verify(&graph).unwrap();
    check_net(Net::new(&graph, norms).unwrap(), samples);
}

fn check_net(mut net: Net, samples: usize) {
    const STEP: f32 = 2e-3;
    let batch = numbers(samples * net.sample_len(), 0.1, 1.0);
    let (here, gradient) = loss(net.forward(&batch));
    net.backward(&[(net.logits(), gradient)].into());
    let gradients: Vec<Vec<f32>> = net.parameters().iter().map(|p| p.gradient.clone()).collect();
    for (p, gradient) in gradients.iter().enumerate() {
        let scale = gradient.iter().fold(0.1, |top: f32, g| top.max(g.abs()));
        for i in (0..gradient.len()).step_by(gradient.len().div_ceil(23)) {
            let start = net.parameters()[p].values[i];
            let [before, after] = [-STEP, STEP].map(|by| {
                net.parameters_mut()[p].values[i] = start + by;
                loss(net.forward(&batch)).0
            });
            net.parameters_mut()[p].values[i] = start;
            let step = f64::from(STEP);
            let slopes = [(here - before) / step, (after - here) / step, (after - before) / (2.0 * step)];
            let off = slopes.map(|slope| (slope as f32 - gradient[i]).abs()).into_iter().fold(f32::MAX, f32::min);
            let name = &net.parameters()[p].name;
            // Where the slopes to both sides differ, that between them is known less well.
            let tolerance = 0.01 * scale + 0.1 * (slopes[1] - slopes[0]).abs() as f32;
            assert!(off < tolerance, "{name}[{i}]: {}, slopes {slopes:?}, scale {scale}", gradient[i]);
        }
    }
}

const CONVOLUTIONS: &str = "graph g
input %x: [1, 7, 6, 3]
const %a.w: [5, 3, 3, 3]
const %a.b: [5] = [0.1, 0.2, 0.3, 0.1, 0.2]
%a: [1, 4, 3, 5] = conv2d(%x, %a.w, %a.b) stride=[2, 2] pad=[1, 1, 0, 1]
const %b.w: [20, 2, 3, 5]
%b: [1, 4, 3, 20] = conv2d(%a, %b.w) pad=[0, 1, 1, 1]
const %c.w: [20, 3, 3, 1]
const %c.b: [20] = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
%c: [1, 2, 3, 20] = conv2d(%b, %c.w, %c.b) stride=[2, 1] pad=[1, 0, 1, 1] groups=20
const %d.w: [8, 2, 2, 5]
%d: [1, 2, 3, 8] = conv2d(%c, %d.w) pad=[1, 0, 0, 1] groups=4
const %e.w: [33, 1, 1, 8]
%e: [1, 2, 3, 33] = conv2d(%d, %e.w)
const %f.w: [4, 1, 1, 33]
%f: [1, 1, 2, 4] = conv2d(%e, %f.w) stride=[2, 2]
const %g.w: [8, 2, 1, 1]
%g: [1, 1, 2, 8] = conv2d(%f, %g.w) pad=[2, 0, 0, 0] dilation=[2, 1] groups=4
output %g
";

#[test]
fn gradients_of_convolutions_are_slopes() {
    check(CONVOLUTIONS, Norms::Bias, 3);
    check(CONVOLUTIONS, Norms::Bias, 19);
}

#[test]
fn gradients_of_batch_norm_are_slopes() {
    check(CONVOLUTIONS, Norms::Batch, 19);
}

/// Few outputs, so that corners are hardly ever met on both sides.
#[test]
fn gradients_behind_clamps_are_slopes() {
    let text = "graph g
input %x: [1, 3, 3, 2]
const %a.w: [5, 2, 2, 2]
const %a.b: [5] = [0.1, 0.2, 0.3, 0.1, 0.2]
%a: [1, 2, 2, 5] = conv2d(%x, %a.w, %a.b) clamp=[-0.2, 0.6]
const %b.w: [3, 1, 1, 5]
const %b.b: [3] = [0.3, 0.2, 0.1]
%b: [1, 2, 2, 3] = conv2d(%a, %b.w, %b.b) clamp=[0.0, inf]
output %b
";
    check(text, Norms::Bias, 3);
    check(text, Norms::Batch, 3);
}

#[test]
fn gradients_of_everything_else_are_slopes() {
    let text = "graph g
input %x: [1, 4, 4, 4]
const %a.w: [4, 1, 1, 4]
%a: [1, 4, 4, 4] = conv2d(%x, %a.w)
%pad: [1, 5, 6, 4] = pad(%a) pads=[0, 0, 1, 0, 1, 1, 0, 0]
%max: [1, 3, 3, 4] = max_pool(%pad) kernel=[2, 2] stride=[2, 2] pad=[0, 1, 0, 0]
%mean: [1, 3, 3, 4] = avg_pool(%pad) kernel=[2, 2] stride=[2, 2] pad=[0, 1, 0, 0]
const %factor: [4] = [0.5, -1.0, 2.0, 1.5]
%scaled: [1, 3, 3, 4] = mul(%max, %factor)
const %addend: [4] = [0.5, -1.0, 2.0, 1.5]
%moved: [1, 3, 3, 4] = add(%mean, %addend)
%sum: [1, 3, 3, 4] = add(%scaled, %moved) clamp=[-2.0, inf]
%spread: [1, 6, 6, 1] = depth_to_space(%sum) block=2 order=block_first
%resized: [1, 4, 3, 1] = resize(%spread) mode=bilinear coordinates=half_pixel
%turned: [1, 3, 4, 1] = transpose(%resized) perm=[0, 2, 1, 3]
%s: [1, 3, 4, 1] = sigmoid(%turned)
%t: [1, 3, 4, 1] = tanh(%turned)
%l: [1, 3, 4, 1] = leaky_relu(%turned) alpha=0.1
%h: [1, 3, 4, 1] = hard_swish(%turned)
%all: [1, 3, 4, 4] = concat(%s, %t, %l, %h) axis=3
%soft: [1, 3, 4, 4] = softmax(%all)
%flat: [1, 48] = reshape(%soft)
const %fc.w: [5, 48]
const %fc.b: [5] = [0.1, 0.2, 0.3, 0.4, 0.5]
%fc: [1, 5] = fully_connected(%flat, %fc.w, %fc.b)
output %fc
";
    check(text, Norms::Bias, 17);
}

#[test]
fn a_batch_is_that_of_the_oracle() {
    let graph = graph(CONVOLUTIONS);
    let mut net = Net::new(&graph, Norms::Bias).unwrap();
    let batch = numbers(20 * net.sample_len(), 0.1, 1.0);
    let expected = crate::eval::Net::float(&net.graph()).unwrap().forward(&batch, 20).unwrap();
    for (a, b) in net.forward(&batch).iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn folded_norms_are_the_norms() {
    let mut net = Net::new(&graph(CONVOLUTIONS), Norms::Batch).unwrap();
    let batch = numbers(64 * net.sample_len(), 0.1, 1.0);
    net.forward(&batch);
    let folded = crate::eval::Net::float(&net.graph()).unwrap().forward(&batch, 64).unwrap();
    let apart = net.forward(&batch).iter().zip(&folded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The running variance is that of the population, a little above that of the batch.
    assert!(apart < 0.05, "{apart}");
}

#[test]
fn threads_change_nothing() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut net = Net::new(&graph(CONVOLUTIONS), Norms::Batch).unwrap();
            let batch = numbers(50 * net.sample_len(), 0.1, 1.0);
            let (_, gradient) = loss(net.forward(&batch));
            net.backward(&[(net.logits(), gradient)].into());
            net.parameters().to_vec()
        })
    };
    assert_eq!(run(1), run(3));
}

/// Weights `latent + latent² * share`, one share for all: a map whose gradients are slopes.
struct Squares;

impl WeightMap for Squares {
    fn parameters(&self, prefix: &str) -> Vec<Parameter> {
        vec![Parameter::new(format!("{prefix}.share"), Role::Map, vec![0.7])]
    }

    fn forward(&self, latent: &[f32], own: &[Parameter], weights: &mut [f32]) {
        weights.iter_mut().zip(latent).for_each(|(w, x)| *w = x + x * x * own[0].values[0]);
    }

    fn backward(&self, latent: &[f32], own: &mut [Parameter], gradient: &mut [f32]) {
        for (g, x) in gradient.iter_mut().zip(latent) {
            own[0].gradient[0] += *g * x * x;
            *g *= 1.0 + 2.0 * x * own[0].values[0];
        }
    }
}

#[test]
fn gradients_through_weight_maps_are_slopes() {
    let graph = graph(CONVOLUTIONS);
    let mut net = Net::new(&graph, Norms::Bias).unwrap();
    let layers: Vec<NodeId> = graph.weighted().collect();
    for layer in [layers[0], layers[2], layers[2], layers[4]] {
        net.map_weights(layer, Box::new(Squares)).unwrap();
    }
    check_net(net, 3);
}

#[test]
fn a_trained_graph_has_mapped_weights() {
    let graph = graph(CONVOLUTIONS);
    let mut net = Net::new(&graph, Norms::Bias).unwrap();
    let layer = graph.weighted().next().unwrap();
    net.map_weights(layer, Box::new(Squares)).unwrap();
    let batch = numbers(2 * net.sample_len(), 0.1, 1.0);
    let expected = crate::eval::Net::float(&net.graph()).unwrap().forward(&batch, 2).unwrap();
    for (a, b) in net.forward(&batch).iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
    let latent = net.latent(layer).unwrap().values[0];
    assert_eq!(
        net.graph().value(graph.node(layer).inputs[1]).data.as_ref().unwrap()[0],
        latent + latent * latent * 0.7
    );
}
