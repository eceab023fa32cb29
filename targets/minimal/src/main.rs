//! Runs the network that `PARE_NETWORKS` names, once, and nothing else.
#![no_std]
#![no_main]

use core::hint::black_box;

use pare_runtime::{Arena, Model, Session, arena_bytes};

const BYTES: &[u8] = include_bytes!(env!("PARE_NETWORKS"));

/// At an address that suits every kernel.
#[repr(align(64))]
struct Network([u8; BYTES.len()]);

#[unsafe(link_section = ".network")]
static NETWORK: Network = Network(*include_bytes!(env!("PARE_NETWORKS")));

static mut ARENA: Arena<{ arena_bytes(BYTES) }> = Arena::new();

#[unsafe(no_mangle)]
extern "C" fn reset() -> ! {
    let arena = &raw mut ARENA;
    // SAFETY: this runs once, and nothing else names the arena.
    let arena = unsafe { &mut *arena };
    // What is known of the network when this is compiled is known of none that is flashed later.
    if let Ok(model) = Model::parse(black_box(&NETWORK.0))
        && let Ok(mut session) = Session::new(model, &mut arena.0)
    {
        session.input(0).fill(black_box(1));
        session.run();
        black_box(session.output(0));
    }
    halt()
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    halt()
}

fn halt() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
