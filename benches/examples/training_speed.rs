//! Images a second of training: forward, backward and update of a network whose layers have batch norms, as
//! `benches/training/compare.py` has PyTorch do them.
//!
//!     RAYON_NUM_THREADS=1 cargo run --release -p pare-benches --example training_speed -- MODEL [BATCH]

#![allow(clippy::print_stdout, reason = "the result, for the person who measures")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use pare::train::{Net, Norms, Objective, Optimiser, Rule, distributions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: training_speed MODEL [BATCH]")?;
    let batch: usize = arguments.next().map_or(Ok(128), |n| n.parse())?;
    let graph = pare::passes::simplify(pare::import::import(Path::new(&model))?)?;
    let mut net = Net::new(&graph, Norms::Batch)?;
    let mut optimiser = Optimiser::new(Rule::SGD, 1e-4, net.parameters());
    let inputs: Vec<f32> = (0..batch * net.sample_len()).map(|i| (i as f32 * 0.37).sin()).collect();
    let classes = graph.value(net.logits()).len();
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    let targets = distributions(&labels, classes, 0.0);
    let mut seconds = Vec::new();
    for _ in 0..12 {
        let start = Instant::now();
        let logits = net.forward(&inputs).to_vec();
        let loss = Objective::CrossEntropy.of(&logits, &targets, classes);
        net.backward(&[(net.logits(), loss.gradient)].into());
        optimiser.step(net.parameters_mut(), 1e-3);
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
    let rate = |seconds: f64| batch as f64 / seconds;
    println!("batch {batch}: {:.0} images/s, at best {:.0}", rate(median), rate(best));
    Ok(())
}
