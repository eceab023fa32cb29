//! The least program that runs a network, that which `PARE_NETWORKS` names: what it takes of flash and RAM, every firmware
//! takes for it.
#![no_std]
#![no_main]

use core::hint::black_box;

use pare_firmware::stop;
use pare_runtime::{Arena, Model, Session, arena_bytes};

#[repr(align(64))]
struct Aligned<const N: usize>([u8; N]);

static NETWORK: Aligned<{ include_bytes!(env!("PARE_NETWORKS")).len() }> =
    Aligned(*include_bytes!(env!("PARE_NETWORKS")));

static mut ARENA: Arena<{ arena_bytes(&NETWORK.0) }> = Arena::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let arena = &raw mut ARENA;
    // SAFETY: `main` runs once, and nothing else names the arena.
    let arena = unsafe { &mut *arena };
    // What is known of the network when this is compiled is known of none that is flashed later.
    let Ok(model) = Model::parse(black_box(&NETWORK.0)) else { stop("the network is damaged") };
    let Ok(mut session) = Session::new(model, &mut arena.0) else { stop("the network does not start") };
    loop {
        black_box(session.input(0));
        session.run();
        black_box(session.output(0));
    }
}
