//! A contestant of `benches/peers`: runs a blob back to back as often as each line of standard input says, and
//! answers every line with the nanoseconds that took.
//!
//!     sampler BLOB.pare [ISA]
#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use pare::board::AlignedBytes;
use pare_runtime::{Isa, Model, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which blob?")?;
    let isa = args.next().map_or(Ok(Isa::best()), |name| name.parse())?;
    let blob = AlignedBytes::from(&std::fs::read(path)?[..]);
    let model = Model::parse(&blob)?;
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::with_isa(model, &mut arena, isa)?;
    for line in std::io::stdin().lock().lines() {
        let runs: u32 = line?.trim().parse()?;
        let begin = Instant::now();
        for _ in 0..runs {
            session.run();
        }
        println!("{}", begin.elapsed().as_nanos());
        std::io::stdout().flush()?;
    }
    Ok(())
}
