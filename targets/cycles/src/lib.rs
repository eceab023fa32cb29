//! Estimates the cycles of a Cortex-M from what QEMU executes: a plugin of the emulator (its interface of version 1,
//! which QEMU 4.2 to 8.x offer).
//!
//! [`thumb`] says of an instruction what kind of work it is, [`pipeline`] what that costs on a core, [`flash`] how long
//! memory keeps it waiting. The plugin reads its clock whenever the instruction at the address `mark` is reached, which
//! is where the firmware reads its own: as many lines come out as there were readings.
//!
//! Arguments: `core=cortex-m4|cortex-m7`, `mark=ADDRESS`, `out=FILE`, and of the flash `from=ADDRESS` and `to=ADDRESS`
//! (twice: of code, of data), `line=BYTES`, `fill=CYCLES`, `code=LINES`, `data=LINES`, `prefetch=on|off`.

pub mod clock;
pub mod flash;
pub mod pipeline;
pub mod plugin;
pub mod thumb;
