//! What QEMU calls, and what of it is called: `qemu-plugin.h`, version 1 of the interface.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;

use crate::clock::Clock;
use crate::flash::{Flash, FlashSpec};
use crate::pipeline::{Core, Pipeline, Placed};
use crate::thumb::decode;

/// The version of the interface that this plugin was made for.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

type Translated = extern "C" fn(u64, *mut c_void);
type Executed = extern "C" fn(c_uint, *mut c_void);
type Accessed = extern "C" fn(c_uint, u32, u64, *mut c_void);
type Ended = extern "C" fn(u64, *mut c_void);

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, call: Translated);
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut c_void,
        call: Executed,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut c_void,
        call: Accessed,
        flags: c_int,
        accesses: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_mem_is_store(how: u32) -> bool;
    fn qemu_plugin_register_atexit_cb(id: u64, call: Ended, data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const c_void, index: usize) -> *mut c_void;
    fn qemu_plugin_insn_data(instruction: *const c_void) -> *const u8;
    fn qemu_plugin_insn_size(instruction: *const c_void) -> usize;
    fn qemu_plugin_insn_vaddr(instruction: *const c_void) -> u64;
}

/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`. QEMU 7 takes `QEMU_PLUGIN_MEM_R` for writes.
const ACCESSES: c_int = 3;

/// The one emulation of this process.
static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

struct Trace {
    clock: Clock,
    out: PathBuf,
}

fn with_clock(act: impl FnOnce(&mut Clock)) {
    if let Ok(mut trace) = TRACE.lock()
        && let Some(trace) = trace.as_mut()
    {
        act(&mut trace.clock);
    }
}

extern "C" fn executed(_processor: c_uint, data: *mut c_void) {
    // SAFETY: registered in `translated` with an instruction that lives for ever.
    let placed = unsafe { *data.cast::<Placed>() };
    with_clock(|clock| clock.execute(placed));
}

extern "C" fn accessed(_processor: c_uint, how: u32, address: u64, _data: *mut c_void) {
    // SAFETY: QEMU says how.
    if !unsafe { qemu_plugin_mem_is_store(how) } {
        with_clock(|clock| clock.read(address as u32));
    }
}

extern "C" fn translated(_id: u64, block: *mut c_void) {
    // SAFETY: QEMU passes a block of its own, whose instructions may be asked for during this call, and the two to four
    // bytes of each.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let (size, address) = (qemu_plugin_insn_size(instruction), qemu_plugin_insn_vaddr(instruction) as u32);
            let bytes = std::slice::from_raw_parts(qemu_plugin_insn_data(instruction), size);
            let mut halves = bytes.as_chunks().0.iter().map(|&half| u16::from_le_bytes(half));
            let (first, second) = (halves.next().unwrap_or(0), halves.next().unwrap_or(0));
            let placed = Placed { address, next: address + size as u32, instruction: decode(first, second) };
            // QEMU keeps the pointer for as long as it runs.
            let placed: *mut Placed = Box::leak(Box::new(placed));
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, executed, NO_REGISTERS, placed.cast());
            qemu_plugin_register_vcpu_mem_cb(instruction, accessed, NO_REGISTERS, ACCESSES, std::ptr::null_mut());
        }
    }
}

extern "C" fn ended(_id: u64, _data: *mut c_void) {
    let Ok(trace) = TRACE.lock() else { return };
    let Some(trace) = trace.as_ref() else { return };
    let lines = trace.clock.readings().iter().fold(String::new(), |mut lines, reading| {
        // Writing to a string never fails.
        let _ = writeln!(lines, "{reading}");
        lines
    });
    if let Err(error) = fs::write(&trace.out, lines) {
        eprintln!("{}: {error}", trace.out.display());
    }
}

/// What QEMU calls first.
///
/// # Safety
/// As QEMU does it: `arguments` points to `count` texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _about: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: as the caller promises.
    let texts = (0..usize::try_from(count).unwrap_or(0)).map(|i| unsafe { CStr::from_ptr(*arguments.add(i)) });
    let arguments: Vec<_> = texts.map(|text| text.to_string_lossy().into_owned()).collect();
    let trace = match trace(&arguments) {
        Ok(trace) => trace,
        Err(error) => {
            eprintln!("pare-cycles: {error}");
            return 1;
        }
    };
    let Ok(mut place) = TRACE.lock() else { return 1 };
    *place = Some(trace);
    // SAFETY: during the installation, with functions of the types that the interface asks for.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        qemu_plugin_register_atexit_cb(id, ended, std::ptr::null_mut());
    }
    0
}

fn trace(arguments: &[String]) -> Result<Trace, String> {
    let all = |name: &str| -> Vec<&str> {
        arguments.iter().filter_map(|text| text.strip_prefix(name)?.strip_prefix('=')).collect()
    };
    let text = |name: &str| all(name).first().copied().ok_or_else(|| format!("`{name}=` is missing"));
    let ranges = all("from").into_iter().zip(all("to")).map(|(from, to)| Ok(number(from)?..number(to)?));
    let flash = FlashSpec {
        ranges: ranges.collect::<Result<_, String>>()?,
        line_bytes: number(text("line")?)?.max(1),
        fill_cycles: number(text("fill")?)?,
        code_lines: number(text("code")?)? as usize,
        data_lines: number(text("data")?)? as usize,
        prefetch: text("prefetch")? == "on",
    };
    let core = Core::from_str(text("core")?)?;
    let clock = Clock::new(Pipeline::new(core), Flash::new(flash), number(text("mark")?)?);
    Ok(Trace { clock, out: text("out")?.into() })
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}
