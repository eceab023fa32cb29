//! Prints what quantisation does to the four reference networks, on their whole test sets:
//! `cargo run --release -p pare-tests --example figures [FILE-PREFIX]`.
#![allow(clippy::print_stdout, reason = "its output is for people")]

#[path = "../tests/support/mod.rs"]
mod support;

use pare::board::AlignedBytes;
use pare::board::host::Host;
use pare::data::Split;
use pare::eval::Net;
use pare::policy::{EdgeLayers, Policy, WeightFormat};
use pare::quant::{CodeBank, QuantConfig, Rounding};
use pare_runtime::Isa;
use pare_runtime::format::Layout;

fn main() {
    let prefix = std::env::args().nth(1).unwrap_or_default();
    for network in support::NETWORKS.iter().filter(|network| network.file.starts_with(&prefix)) {
        let Some(task) = network.task() else { continue };
        let test = task.data.indices(Split::Test, None).unwrap();
        let float = task.data.score_net(&Net::float(&task.graph).unwrap(), test).unwrap();
        println!("{} {:?}: float {:.4} on {}", network.file, task.data.metric, float.value, float.n);
        let calibration = support::calibration(&task, 512);
        for (bits, activation_bits, rounding) in [
            (8, 8, Rounding::Nearest),
            (4, 8, Rounding::DataAware),
            (2, 8, Rounding::DataAware),
            (4, 4, Rounding::DataAware),
            (2, 4, Rounding::DataAware),
        ] {
            let config = QuantConfig { rounding, ..QuantConfig::USUAL };
            let bank = CodeBank::new(&task.graph, &calibration, &config).unwrap();
            let policy =
                Policy::uniform(&task.graph, WeightFormat::Linear(bits), activation_bits, EdgeLayers::EightBit);
            let deployed = support::deployed(&bank, &policy, Layout::Panels);
            let blob = AlignedBytes::from(&deployed.blob.bytes[..]);
            let figure = task.data.score_blob(&blob, Host::default(), Isa::best(), test).unwrap();
            let (arena, bound) = (deployed.plan.arena_bytes, deployed.plan.arena_lower_bound);
            println!(
                "  w{bits}a{activation_bits} {rounding:?}: {:.4}; blob {} B, arena {arena} B (at least {bound})",
                figure.value,
                blob.len()
            );
        }
    }
}
