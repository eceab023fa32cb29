//! A contestant of `benches/peers`: runs a blob back to back as often as each line of standard input says, and
//! answers every line with the nanoseconds that took.
//!
//!     sampler BLOB.pare [ISA]
#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use pare_runtime::{Isa, Model, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which blob?")?;
    let isa = args.next().map_or(Ok(Isa::best()), |name| name.parse())?;
    let bytes = std::fs::read(path)?;
    let mut room = vec![0; bytes.len() + LINE];
    let blob = aligned(&mut room, bytes.len());
    blob.copy_from_slice(&bytes);
    let model = Model::parse(blob)?;
    let mut room = vec![0; model.arena_bytes() + LINE];
    let mut session = Session::with_isa(model, aligned(&mut room, model.arena_bytes()), isa)?;
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

const LINE: usize = 64;

/// `len` bytes at the first address for full speed.
fn aligned(room: &mut [u8], len: usize) -> &mut [u8] {
    let at = room.as_ptr().align_offset(LINE);
    &mut room[at..at + len]
}
