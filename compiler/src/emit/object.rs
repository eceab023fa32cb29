//! The blob as a linkable ELF object: symbols in `.rodata`, ready for any linker of the target.
//!
//! `<name>` is the blob, 64-byte aligned; `<name>_size` its length and `<name>_arena_size` the arena it
//! needs, both `uint32_t`.

use object::elf;
use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

/// Processor an object file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectArch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit Arm, EABI version 5, floats passed in integer registers.
    ArmSoftFloat,
    /// 32-bit Arm, EABI version 5, floats passed in those of the floating-point unit.
    ArmHardFloat,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit RISC-V with compressed instructions, floats passed in integer registers (ilp32).
    Riscv32,
    /// 64-bit RISC-V with compressed instructions, floats of 64 bits in their own registers (lp64d).
    Riscv64,
}

/// The bytes of a relocatable ELF file.
///
/// # Errors
/// When the blob does not fit the file format (never below 4 GiB).
pub fn object_file(
    name: &str,
    blob: &[u8],
    arena_bytes: usize,
    arch: ObjectArch,
) -> Result<Vec<u8>, object::write::Error> {
    let architecture = match arch {
        ObjectArch::X86_64 => Architecture::X86_64,
        ObjectArch::ArmSoftFloat | ObjectArch::ArmHardFloat => Architecture::Arm,
        ObjectArch::Aarch64 => Architecture::Aarch64,
        ObjectArch::Riscv32 => Architecture::Riscv32,
        ObjectArch::Riscv64 => Architecture::Riscv64,
    };
    let mut file = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    // Linkers refuse to mix calling conventions, even where an object holds nothing to call.
    let e_flags = match arch {
        ObjectArch::ArmSoftFloat => elf::EF_ARM_EABI_VER5 | elf::FileFlags(elf::EF_ARM_ABI_FLOAT_SOFT),
        ObjectArch::ArmHardFloat => elf::EF_ARM_EABI_VER5 | elf::FileFlags(elf::EF_ARM_ABI_FLOAT_HARD),
        ObjectArch::Riscv32 => elf::EF_RISCV_RVC | elf::EF_RISCV_FLOAT_ABI_SOFT,
        ObjectArch::Riscv64 => elf::EF_RISCV_RVC | elf::EF_RISCV_FLOAT_ABI_DOUBLE,
        ObjectArch::X86_64 | ObjectArch::Aarch64 => elf::FileFlags::default(),
    };
    file.flags = object::FileFlags::Elf { os_abi: elf::ELFOSABI_NONE, abi_version: 0, e_flags };
    let section = file.section_id(StandardSection::ReadOnlyData);
    let symbol = super::symbol(name);
    let numbers = [("_size", blob.len()), ("_arena_size", arena_bytes)];
    let mut define = |suffix: &str, bytes: &[u8], align: u64| {
        let id = file.add_symbol(Symbol {
            name: format!("{symbol}{suffix}").into_bytes(),
            value: 0,
            size: bytes.len() as u64,
            kind: SymbolKind::Data,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        });
        file.add_symbol_data(id, section, bytes, align);
    };
    define("", blob, 64);
    for (suffix, number) in numbers {
        define(suffix, &(number as u32).to_le_bytes(), 4);
    }
    // Without this section linkers take the file for one that wants an executable stack.
    file.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Other);
    file.write()
}
