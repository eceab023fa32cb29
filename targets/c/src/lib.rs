//! The functions of `include/pare.h`, which documents them: the runtime as C sees it.
#![no_std]

use core::ffi::c_void;
use core::ptr::{null, null_mut};

use pare_runtime::format::Layer;
use pare_runtime::{FormatError, Model, Probe, Session, SetupError};

/// What C sets aside for a session: `pare_session`.
type Opaque = [usize; 48];

/// What is in it; `None` after an error.
type Slot = Option<Session<'static>>;

const _: () = assert!(size_of::<Slot>() <= size_of::<Opaque>() && align_of::<Slot>() <= align_of::<Opaque>());

/// `pare_status`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All is well.
    Ok = 0,
    /// A pointer is null.
    Null = 1,
    /// No network, or at an odd address.
    NotABlob = 2,
    /// Of another version of the format.
    Version = 3,
    /// For another target.
    Layout = 4,
    /// Cut or damaged.
    Damaged = 5,
    /// Too small an arena.
    Arena = 6,
    /// Kernels that want more memory than was planned.
    Kernels = 7,
    /// Kernels that are not linked.
    NotLinked = 8,
}

/// See the header.
///
/// # Safety
/// `network` points to as many bytes, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pare_arena_bytes(network: *const u8, network_bytes: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe { bytes(network, network_bytes) }.map_or(0, pare_runtime::arena_bytes)
}

/// See the header.
///
/// # Safety
/// `session` points to a `pare_session`, `network` and `arena` to as many bytes, or they are null. Both outlive the
/// session, and nothing else touches the arena.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pare_init(
    session: *mut Slot,
    network: *const u8,
    network_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
) -> Status {
    if session.is_null() {
        return Status::Null;
    }
    // SAFETY: as the caller promises.
    let (network, arena) = unsafe { (bytes(network, network_bytes), bytes_mut(arena, arena_bytes)) };
    let (slot, status) = match (network, arena) {
        (Some(network), Some(arena)) => match start(network, arena) {
            Ok(started) => (Some(started), Status::Ok),
            Err(status) => (None, status),
        },
        _ => (None, Status::Null),
    };
    // SAFETY: a `pare_session`, large enough by the assertion above; what it held before needs no dropping.
    unsafe { session.write(slot) };
    status
}

/// See the header.
///
/// # Safety
/// `session` was given to `pare_init`, or is null; `bytes` points to a number, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pare_input(session: *mut Slot, index: usize, bytes: *mut usize) -> *mut u8 {
    // SAFETY: as the caller promises.
    let codes = unsafe { slot(session) }.map(|session| session.input(index)).unwrap_or_default();
    // SAFETY: as the caller promises.
    unsafe { tell(bytes, codes.len()) };
    if codes.is_empty() { null_mut() } else { codes.as_mut_ptr() }
}

/// See the header.
///
/// # Safety
/// As for [`pare_input`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pare_output(session: *mut Slot, index: usize, bytes: *mut usize) -> *const u8 {
    // SAFETY: as the caller promises.
    let codes = unsafe { slot(session) }.map(|session| session.output(index)).unwrap_or_default();
    // SAFETY: as the caller promises.
    unsafe { tell(bytes, codes.len()) };
    if codes.is_empty() { null() } else { codes.as_ptr() }
}

/// See the header.
///
/// # Safety
/// As for [`pare_input`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pare_invoke(session: *mut Slot) {
    // SAFETY: as the caller promises.
    if let Some(session) = unsafe { slot(session) } {
        session.run();
    }
}

/// See the header.
///
/// # Safety
/// As for [`pare_input`], and the hook leaves session and arena alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pare_invoke_hooked(session: *mut Slot, hook: Option<Hook>, context: *mut c_void) {
    // SAFETY: as the caller promises.
    if let (Some(session), Some(hook)) = (unsafe { slot(session) }, hook) {
        session.run_probed(&mut Watch { hook, context });
    }
}

/// `pare_hook`.
pub type Hook = unsafe extern "C" fn(context: *mut c_void, layer: usize, output: *const u8, output_bytes: usize);

struct Watch {
    hook: Hook,
    context: *mut c_void,
}

impl Probe for Watch {
    fn before(&mut self, index: usize, _layer: &Layer<'_>) {
        // SAFETY: the caller of `pare_invoke_hooked` gave the function and what it wants.
        unsafe { (self.hook)(self.context, index, null(), 0) }
    }

    fn after(&mut self, index: usize, _layer: &Layer<'_>, output: &[u8]) {
        // SAFETY: as above.
        unsafe { (self.hook)(self.context, index, output.as_ptr(), output.len()) }
    }
}

fn start(network: &'static [u8], arena: &'static mut [u8]) -> Result<Session<'static>, Status> {
    let model = Model::parse(network).map_err(|error| match error {
        FormatError::NotABlob | FormatError::Misaligned => Status::NotABlob,
        FormatError::Version(_) | FormatError::UnknownOp(_) => Status::Version,
        FormatError::Layout(_) => Status::Layout,
        FormatError::NotLinked => Status::NotLinked,
        _ => Status::Damaged,
    })?;
    Session::new(model, arena).map_err(|error| match error {
        SetupError::Arena { .. } => Status::Arena,
        _ => Status::Kernels,
    })
}

/// The session behind a pointer; `None` where it did not start.
///
/// # Safety
/// It was given to `pare_init`, or is null.
unsafe fn slot<'a>(session: *mut Slot) -> Option<&'a mut Session<'static>> {
    // SAFETY: `pare_init` wrote a slot there; C holds no other reference.
    unsafe { session.as_mut() }?.as_mut()
}

/// # Safety
/// `first` points to as many bytes that nothing writes to from now on, or is null.
unsafe fn bytes(first: *const u8, len: usize) -> Option<&'static [u8]> {
    // SAFETY: as the caller promises.
    (!first.is_null()).then(|| unsafe { core::slice::from_raw_parts(first, len) })
}

/// # Safety
/// `first` points to as many bytes that nothing else uses from now on, or is null.
unsafe fn bytes_mut(first: *mut u8, len: usize) -> Option<&'static mut [u8]> {
    // SAFETY: as the caller promises.
    (!first.is_null()).then(|| unsafe { core::slice::from_raw_parts_mut(first, len) })
}

/// # Safety
/// `place` points to a number, or is null.
unsafe fn tell(place: *mut usize, number: usize) {
    // SAFETY: as the caller promises.
    if let Some(place) = unsafe { place.as_mut() } {
        *place = number;
    }
}

/// Nothing in the runtime panics; what would is not worth its texts in flash.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
