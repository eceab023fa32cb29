//! Experiments with pruning ResNet-8.
use pare::data::*;
use pare::eval::Net;
use pare::ir::Graph;
use pare::prune::*;
use pare::quant::{CalibrationConfig, calibrate};
use std::time::Instant;

fn accuracy(graph: &Graph, inputs: &[f32], labels: &[Option<u32>]) -> f64 {
    let out = Net::float(graph).unwrap().forward(inputs, labels.len()).unwrap();
    let n = out.len() / labels.len();
    let hit = out.chunks(n).zip(labels).filter(|(row, label)| {
        let best = (0..n).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        Some(best as u32) == **label
    });
    100.0 * hit.count() as f64 / labels.len() as f64
}

fn main() {
    let path = std::path::Path::new("/work/shared/models/resnet8_float.tflite");
    let graph = pare::passes::simplify(pare::import::import(path).unwrap()).unwrap();
    let graph = pare::passes::drop_softmax(&graph).unwrap_or(graph);
    let home = std::env::var("HOME").unwrap();
    let spec: DataSpec = format!("cifar10:{home}/.cache/pare/cifar10").parse().unwrap();
    let data = pare::data::open(&spec).unwrap();
    let task = pare::task::Task::new(graph.clone(), data, Preprocessing::IDENTITY, None).unwrap();
    let (vx, vy) = task.data.spread_labelled(Split::Val, 5000).unwrap();
    println!("dense val {:.2}", accuracy(&graph, &vx, &vy));
    for group in Groups::of(&graph).iter() {
        let name = |id: &pare::ir::NodeId| graph.node(*id).name.clone();
        println!(
            "{} units, producers {:?} consumers {:?}",
            group.units.len(),
            group.producers.iter().map(name).collect::<Vec<_>>(),
            group.consumers.iter().map(name).collect::<Vec<_>>()
        );
    }
    let n: usize = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(2048);
    let rows: usize = std::env::var("ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(60_000);
    let inputs = task.data.spread(Split::Train, n).unwrap();
    let config = CalibrationConfig { rows_per_layer: rows, seed: 0 };
    let t = Instant::now();
    let calibration = calibrate(&graph, &inputs, n, &config).unwrap();
    println!("calibrate {:?}", t.elapsed());
    let macs = |g: &Graph| g.nodes.iter().map(|n| g.macs(n)).sum::<u64>() as f64;
    for selection in [Selection::Least(Saliency::L1), Selection::Least(Saliency::L2), Selection::Elimination] {
        let t = Instant::now();
        let pruner = Pruner::new(&graph, &calibration, selection);
        println!("{selection:?} order {:?}", t.elapsed());
        let all: Vec<usize> = pruner.groups().iter().map(|g| g.units.len()).collect();
        for (what, share) in [("inner .5", 0.5), ("inner .75", 0.75)] {
            let inner = |g: &Group| g.producers.len() == 1 && g.consumers.len() == 1;
            let widths: Vec<usize> = pruner
                .groups()
                .iter()
                .zip(&all)
                .map(|(g, &n)| if inner(g) { (n as f64 * share) as usize } else { n })
                .collect();
            let units = pruner.units(&widths);
            let kept = pruner.groups().kept(&units);
            let mask = shrink(&graph, pruner.groups(), &units);
            let t = Instant::now();
            let ls = pruner.prune(&units);
            let t_ls = t.elapsed();
            let t = Instant::now();
            let again = refit(&graph, ls.clone(), &kept, &inputs, &config).unwrap();
            let t_again = t.elapsed();
            let t = Instant::now();
            let a = accuracy(&ls, &vx, &vy);
            println!(
                "{what} {widths:?} macs {:.3}: mask {:.2} ls {a:.2} ({t_ls:?}, eval {:?}) refit {:.2} ({t_again:?})",
                macs(&ls) / macs(&graph),
                accuracy(&mask, &vx, &vy),
                t.elapsed(),
                accuracy(&again, &vx, &vy)
            );
        }
    }
}
