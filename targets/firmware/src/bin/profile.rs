//! Counts the ticks of the job's blob on its first input: parsing, setting up, the first run, another run, and each
//! layer of a third, with the kernels that it ran.
#![no_std]
#![no_main]

use pare_firmware::counter::Counter;
use pare_firmware::{Line, arena, done, fail, fill_inputs, job, parse, session, stack_bytes};
use pare_runtime::format::{Layer, LayerOp};
use pare_runtime::kernels::ConvKernel;
use pare_runtime::{Isa, Probe};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let (job, isa, blob, inputs) = job();
    let counter = Counter::start(&job);
    let begin = counter.now();
    let model = parse(blob);
    let parse_ticks = counter.since(begin);
    let begin = counter.now();
    let mut session = session(model, arena(), isa);
    let setup_ticks = counter.since(begin);
    let mut run = |word: &str| {
        if fill_inputs(&mut session, inputs).is_none() {
            fail("the job holds no whole sample");
        }
        let begin = counter.now();
        session.run();
        Line::new(word).number(counter.since(begin)).end();
    };
    Line::new("parse").number(parse_ticks).end();
    Line::new("setup").number(setup_ticks).end();
    run("first");
    run("run");
    if fill_inputs(&mut session, inputs).is_none() {
        fail("the job holds no whole sample");
    }
    session.run_probed(&mut Clock { counter, isa, begin: 0 });
    Line::new("stack").number(stack_bytes() as u64).end();
    done()
}

/// Writes a line each time that a layer runs.
struct Clock {
    counter: Counter,
    isa: Isa,
    begin: u64,
}

impl Probe for Clock {
    fn before(&mut self, _index: usize, _layer: &Layer<'_>) {
        self.begin = self.counter.now();
    }

    fn after(&mut self, index: usize, layer: &Layer<'_>, _output: &[u8]) {
        let ticks = self.counter.since(self.begin);
        let isa = match &layer.op {
            LayerOp::Conv(conv) => ConvKernel::choose(self.isa, conv).isa,
            _ => self.isa,
        };
        Line::new("layer").number(index as u64).word(isa.name()).number(ticks).end();
    }
}
