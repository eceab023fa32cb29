//! Runs the job's blob on each of its inputs: a line of output codes for each, then a digest of them all.
#![no_std]
#![no_main]

use pare_firmware::{Line, arena, done, fail, fill_inputs, job, parse, session, stack_bytes};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let (_, isa, blob, mut inputs) = job();
    let mut session = session(parse(blob), arena(), isa);
    let outputs = session.model().outputs().len();
    let mut digest = Digest::new();
    while !inputs.is_empty() {
        match fill_inputs(&mut session, inputs) {
            Some(rest) if rest.len() < inputs.len() => inputs = rest,
            _ => fail("the job's inputs are no whole number of samples"),
        }
        session.run();
        let mut line = Line::new("output");
        for index in 0..outputs {
            digest.update(session.output(index));
            line.hex(session.output(index));
        }
        line.end();
    }
    Line::new("digest").hex(&digest.0.to_be_bytes()).end();
    Line::new("stack").number(stack_bytes() as u64).end();
    done()
}

/// FNV-1a of 32 bits (Fowler, Noll and Vo): short.
struct Digest(u32);

impl Digest {
    fn new() -> Digest {
        Digest(0x811c_9dc5)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    }
}
