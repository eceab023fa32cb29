//! A plugin of QEMU (plugin interface 1: QEMU 4.2 to 8.2) that counts executed instructions between marks.
//!
//! `hint #100` begins and `hint #101` ends; the number of instructions between them is then a line of the
//! emulator's standard output. Built and used by `instructions.sh`.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BEGIN: [u8; 4] = 0xd503_2c9f_u32.to_le_bytes();
const END: [u8; 4] = 0xd503_2cbf_u32.to_le_bytes();

static COUNT: AtomicU64 = AtomicU64::new(0);

type Executed = extern "C" fn(c_uint, *mut c_void);

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: extern "C" fn(u64, *mut c_void));
    fn qemu_plugin_register_vcpu_insn_exec_cb(insn: *mut c_void, callback: Executed, flags: c_int, data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const c_void, index: usize) -> *mut c_void;
    fn qemu_plugin_insn_data(insn: *const c_void) -> *const u8;
}

#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

#[unsafe(no_mangle)]
pub extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    // SAFETY: the interface, called as it says.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// Has every instruction of a block call one of the three functions below.
extern "C" fn translated(_id: u64, block: *mut c_void) {
    // SAFETY: the interface, called as it says; an AArch64 instruction has 4 bytes.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let insn = qemu_plugin_tb_get_insn(block, index);
            let callback = match *qemu_plugin_insn_data(insn).cast::<[u8; 4]>() {
                BEGIN => begin,
                END => end,
                _ => other,
            };
            qemu_plugin_register_vcpu_insn_exec_cb(insn, callback, 0, std::ptr::null_mut());
        }
    }
}

extern "C" fn begin(_cpu: c_uint, _data: *mut c_void) {
    COUNT.store(0, Relaxed);
}

extern "C" fn end(_cpu: c_uint, _data: *mut c_void) {
    let mut out = std::io::stdout();
    let _closed = writeln!(out, "{}", COUNT.load(Relaxed)).and_then(|()| out.flush());
}

extern "C" fn other(_cpu: c_uint, _data: *mut c_void) {
    COUNT.store(COUNT.load(Relaxed) + 1, Relaxed);
}
