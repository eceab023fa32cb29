//! What the programs for microcontrollers share: start-up, the job that they are given, time, and what they say.
//!
//! A program is built once for a core. Network and inputs are not part of it. `infer` and `profile` find them in the
//! board's job region ([`mod@job`]), where an emulator loads them, and answer in lines of text through it. `serve`
//! (feature `serial`) is sent them over a serial port, and answers there ([`wire`]).
#![no_std]

#[cfg(feature = "serial")]
pub mod board;
pub mod chip;
pub mod counter;
pub mod job;
mod layers;
#[cfg(feature = "serial")]
pub mod line;
mod memory;
mod report;
mod semihosting;
mod startup;
#[cfg(feature = "serial")]
mod uart;
#[cfg(feature = "serial")]
pub mod wire;

pub use layers::LayerTimes;
pub use report::{Line, fail};

use pare_runtime::{Isa, Model, Session};

unsafe extern "C" {
    static stack_bottom: u32;
    static stack_top: u32;
    static mut arena_begin: u8;
    static arena_end: u8;
    static job_begin: u8;
    static job_end: u8;
}

/// What the host asks for. Ends the program when the job region holds nothing.
pub fn job() -> (job::Job, Isa, &'static [u8], &'static [u8]) {
    let Some((job, blob, inputs)) = job::Job::read(flash()) else { fail("the job region holds no job") };
    let Some(&isa) = Isa::ALL.get(job.isa as usize) else { fail("the job names unknown kernels") };
    (job, isa, blob, inputs)
}

/// The board's job region, as it was loaded or flashed.
pub fn flash() -> &'static [u8] {
    let begin = &raw const job_begin;
    // SAFETY: the linker script's symbols bound a region of the board that nothing writes to.
    unsafe { core::slice::from_raw_parts(begin, (&raw const job_end).addr() - begin.addr()) }
}

/// All memory beside the program's own. Call it once.
pub fn arena() -> &'static mut [u8] {
    let begin = &raw mut arena_begin;
    // SAFETY: the linker script's symbols bound the RAM behind `.bss`, which nothing else refers to.
    unsafe { core::slice::from_raw_parts_mut(begin, (&raw const arena_end).addr() - begin.addr()) }
}

/// The most bytes of stack that were in use so far.
pub fn stack_bytes() -> usize {
    let (bottom, top) = (&raw const stack_bottom, &raw const stack_top);
    let words = (top.addr() - bottom.addr()) / size_of::<u32>();
    // SAFETY: the stack, which start-up painted; read as it lies, nothing in it is referred to.
    let untouched = (0..words).take_while(|&i| unsafe { bottom.add(i).read_volatile() } == startup::PAINT).count();
    (words - untouched) * size_of::<u32>()
}

/// The model in a blob. Ends the program when it is none.
pub fn parse(blob: &'static [u8]) -> Model<'static> {
    match Model::parse(blob) {
        Ok(model) => model,
        Err(error) => report::fail_with(&error),
    }
}

/// A session with all of [`arena`]. Ends the program when it cannot start.
pub fn session(model: Model<'static>, arena: &'static mut [u8], isa: Isa) -> Session<'static> {
    match Session::with_isa(model, arena, isa) {
        Ok(session) => session,
        Err(error) => report::fail_with(&error),
    }
}

/// Fills all inputs from the front of `codes`; the rest of them, or `None` where they are too few.
pub fn fill_inputs<'a>(session: &mut Session<'_>, mut codes: &'a [u8]) -> Option<&'a [u8]> {
    let inputs = session.model().inputs().len();
    for index in 0..inputs {
        let input = session.input(index);
        let (head, rest) = codes.split_at_checked(input.len())?;
        input.copy_from_slice(head);
        codes = rest;
    }
    Some(codes)
}

/// Ends the program: what there is to say, each product says in its own way.
#[cfg(feature = "network")]
pub fn stop(_why: &str) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Ends the program well.
pub fn done() -> ! {
    semihosting::exit(0)
}
