//! Writes the seeds of the fuzz corpus: `cargo run -p pare-tests --example corpus`.

use std::path::Path;

use pare_runtime::format::WeightFormat;
use pare_tests::blob::{every_operator, in_a_row};
use pare_tests::problems::Random;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    std::fs::write(corpus.join("blob/every_operator"), every_operator())?;
    std::fs::write(corpus.join("blob/stage"), in_a_row(Some(4)))?;
    // Dense and depthwise, every layout and format: see `pare_tests::fuzz::weights`.
    let mut random = Random(11);
    for kind in 0..5 {
        for (i, format) in (0u8..).zip(WeightFormat::ALL).filter(|(_, format)| kind < 4 || format.has_planes()) {
            let mut seed: Vec<u8> = (0..160).map(|_| random.next() as u8).collect();
            (seed[0], seed[1]) = (kind, i);
            let kind = ["plain-dense", "panels-dense", "plain-depthwise", "panels-depthwise", "planes-dense"]
                [usize::from(kind)];
            std::fs::write(corpus.join("weights").join(format!("{kind}-{format}")), seed)?;
        }
    }
    Ok(())
}
