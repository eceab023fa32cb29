//! Runs networks that a host sends over a serial port: one session at a time, asked step by step.
#![no_std]
#![no_main]

use core::fmt::Display;

use pare_firmware::board::{COUNTER, COUNTER_ADDRESS, RUNTIME, TARGET};
use pare_firmware::counter::Counter;
use pare_firmware::line::Line;
use pare_firmware::wire::{ALIGN, Board, DATA_BYTES, PROTOCOL, Place, Request, Response, checksum};
use pare_firmware::{LayerTimes, arena, fill_inputs, flash, stack_bytes};
use pare_runtime::{Isa, Model, Session};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut line = Line::open();
    let memory = arena();
    let counter = Counter::start(COUNTER, COUNTER_ADDRESS);
    line.receive();
    loop {
        if let Some(Request::Open { place, bytes, isa }) = line.request() {
            open(&mut line, memory, place, bytes as usize, isa, counter);
        } else {
            serve(&line, memory);
            line.receive();
        }
    }
}

/// Answers what needs no session.
fn serve(line: &Line, memory: &mut [u8]) {
    match line.request() {
        Some(Request::Hello) => line.answer(&Response::Board(Board {
            protocol: PROTOCOL,
            target: TARGET,
            runtime: RUNTIME,
            ram_bytes: memory.len() as u32,
            flash_address: flash().as_ptr().addr() as u32,
            flash_bytes: flash().len() as u32,
        })),
        Some(Request::Find { bytes, sum }) => {
            let holds = |memory: &[u8]| memory.get(..bytes as usize).is_some_and(|found| checksum(&[found]) == sum);
            let in_ram = || holds(memory).then_some(Place::Ram);
            line.answer(&Response::Found(if holds(flash()) { Some(Place::Flash) } else { in_ram() }));
        }
        Some(Request::Write { offset, bytes }) => {
            match memory.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..bytes.len())) {
                Some(place) => {
                    place.copy_from_slice(bytes);
                    line.answer(&Response::Done);
                }
                None => line.answer(&Response::Refused("there is no RAM for that much of a network")),
            }
        }
        _ => line.answer(&Response::Refused("no network has been opened")),
    }
}

/// Starts a session and answers what is asked of it, until something else is asked.
fn open(line: &mut Line, memory: &mut [u8], place: Place, bytes: usize, isa: u8, counter: Counter) {
    let refuse = |line: &mut Line, why: &dyn Display| {
        line.refuse(why);
        line.receive();
    };
    let in_ram = if place == Place::Ram { bytes.next_multiple_of(ALIGN) } else { 0 };
    let Some((front, rest)) = memory.split_at_mut_checked(in_ram) else {
        return refuse(line, &"there is no RAM for that much of a network");
    };
    let network = if place == Place::Ram { front } else { flash() };
    let (Some(network), Some(&isa)) = (network.get(..bytes), Isa::ALL.get(usize::from(isa))) else {
        return refuse(line, &"the firmware knows no such network or kernels");
    };
    let begin = counter.now();
    let model = match Model::parse(network) {
        Ok(model) => model,
        Err(error) => return refuse(line, &error),
    };
    let parse = counter.since(begin);
    let input_bytes: usize = model.inputs().map(|tensor| tensor.shape.len()).sum();
    let Some((arena, inputs)) = rest.len().checked_sub(input_bytes).and_then(|len| rest.split_at_mut_checked(len))
    else {
        return refuse(line, &"there is no RAM for the network's inputs");
    };
    let begin = counter.now();
    let mut session = match Session::with_isa(model, arena, isa) {
        Ok(session) => session,
        Err(error) => return refuse(line, &error),
    };
    let setup = counter.since(begin);
    line.answer(&Response::Opened { parse, setup });
    line.receive();
    while attend(line, &mut session, inputs, counter) {
        line.receive();
    }
}

/// Answers what is asked of a session; whether it was that.
fn attend(line: &Line, session: &mut Session<'_>, inputs: &mut [u8], counter: Counter) -> bool {
    match line.request() {
        Some(Request::Input { offset, bytes }) => {
            match inputs.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..bytes.len())) {
                Some(place) => {
                    place.copy_from_slice(bytes);
                    line.answer(&Response::Done);
                }
                None => line.answer(&Response::Refused("the network has no inputs that long")),
            }
        }
        Some(Request::Run) => {
            // As many as the inputs have.
            let _filled = fill_inputs(session, inputs);
            let begin = counter.now();
            session.run();
            let ticks = counter.since(begin);
            line.answer(&Response::Ran { ticks, turns: 0, stack: stack_bytes() as u32 });
        }
        Some(Request::Profile) => {
            let _filled = fill_inputs(session, inputs);
            let mut turns = 0;
            let isa = session.isa();
            session.run_probed(&mut LayerTimes::new(counter, isa, |index, isa, ticks| {
                let isa = Isa::ALL.iter().position(|&known| known == isa).unwrap_or_default() as u8;
                line.answer(&Response::Layer { index: index as u16, isa, ticks });
                turns += 1;
            }));
            line.answer(&Response::Ran { ticks: 0, turns, stack: stack_bytes() as u32 });
        }
        Some(Request::Output { offset }) => {
            let mut buffer = [0; DATA_BYTES];
            let codes = (0..session.model().outputs().len()).flat_map(|index| session.output(index));
            let mut len = 0;
            for (place, &code) in buffer.iter_mut().zip(codes.skip(offset as usize)) {
                *place = code;
                len += 1;
            }
            line.answer(&Response::Output(buffer.get(..len).unwrap_or_default()));
        }
        _ => return false,
    }
    true
}
