//! Recognises a drawn digit with the network that comes with Pare.
#![no_std]
#![no_main]

/// The network: what `pare compile` wrote.
#[allow(dead_code, reason = "scale and zero point of the output: the largest code is the class")]
#[rustfmt::skip]
#[path = "../../model/glyphs.rs"]
mod glyphs;

use core::fmt::{Display, Write};

#[cfg(target_arch = "arm")]
use cortex_m_rt::entry;
use pare_runtime::format::Layer;
use pare_runtime::{Arena, Probe, Session};
#[cfg(target_arch = "riscv32")]
use riscv_rt::entry;
use semihosting::process;
use semihosting::sys::arm_compat::sys_writec;

const EDGE: usize = 32;

/// Each bit is a square of two by two pixels; the leftmost column is the highest bit.
const DRAWING: [u16; EDGE / 2] = [
    0x0000, 0x0000, 0x0000, 0x0ff0, 0x0ff0, 0x0030, 0x0060, 0x0060, //
    0x00c0, 0x00c0, 0x0180, 0x0180, 0x0300, 0x0300, 0x0000, 0x0000,
];

/// The network takes `(grey - 128) / 64`. Constants are computed by the compiler: no float reaches the device.
const fn code(grey: u8) -> u8 {
    ((grey as f32 - 128.0) / 64.0 / glyphs::INPUT0_SCALE + glyphs::INPUT0_ZERO as f32 + 0.5) as u8
}

const INK: u8 = code(220);
const PAPER: u8 = code(60);

/// As large as this network wants, known when this is compiled.
static mut ARENA: Arena<{ glyphs::ARENA_BYTES }> = Arena::new();

#[entry]
fn main() -> ! {
    let arena = &raw mut ARENA;
    // SAFETY: `main` runs once, and nothing else names the arena.
    let arena = unsafe { &mut *arena };
    let model = match glyphs::model() {
        Ok(model) => model,
        Err(error) => fail(&error),
    };
    let mut session = match Session::new(model, &mut arena.0) {
        Ok(session) => session,
        Err(error) => fail(&error),
    };

    for (i, pixel) in session.input(0).iter_mut().enumerate() {
        let (y, x) = (i / EDGE, i % EDGE);
        let row = DRAWING.get(y / 2).copied().unwrap_or(0);
        *pixel = if row << (x / 2) & 0x8000 != 0 { INK } else { PAPER };
    }
    let mut watch = Watch { layers: 0 };
    session.run_probed(&mut watch);

    let scores = session.output(0);
    let best = scores.iter().enumerate().rev().max_by_key(|(_, score)| **score).map_or(0, |(class, _)| class);
    print(&format_args!("layers {}", watch.layers));
    print(&format_args!("digit {best}"));
    for score in scores {
        print(&format_args!("score {score}"));
    }
    process::exit(0)
}

/// A watch on the layers: a profiler would read a timer here.
struct Watch {
    layers: usize,
}

impl Probe for Watch {
    fn before(&mut self, _index: usize, _layer: &Layer<'_>) {}

    fn after(&mut self, _index: usize, _layer: &Layer<'_>, _output: &[u8]) {
        self.layers += 1;
    }
}

fn fail(error: &dyn Display) -> ! {
    print(&format_args!("the network does not run: {error}"));
    process::exit(1)
}

/// A line of text.
fn print(line: &dyn Display) {
    // Writing to the console never fails.
    let _infallible = writeln!(Console, "{line}");
}

/// Where text goes: through the debugger or the emulator, byte by byte.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(sys_writec);
        Ok(())
    }
}
