//! Writes the seeds of the fuzz corpus: `cargo run -p pare-tests --example corpus`.

use std::path::Path;

use pare_tests::blob::every_operator;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/blob");
    std::fs::write(corpus.join("every_operator"), every_operator())
}
