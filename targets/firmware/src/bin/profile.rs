//! Counts the ticks of the job's blob on its first input: parsing, setting up, the first run, another run, and each
//! layer of a third, with the kernels that it ran.
#![no_std]
#![no_main]

use pare_firmware::counter::Counter;
use pare_firmware::{LayerTimes, Line, arena, done, fail, fill_inputs, job, parse, session, stack_bytes};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let (job, isa, blob, inputs) = job();
    let counter = Counter::start(job.counter, job.counter_address);
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
    session.run_probed(&mut LayerTimes::new(counter, isa, |index, isa, ticks| {
        Line::new("layer").number(index as u64).word(isa.name()).number(ticks).end();
    }));
    Line::new("stack").number(stack_bytes() as u64).end();
    done()
}
