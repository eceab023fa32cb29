//! What goes with a blob: objects that parse and link, a C header and a Rust module that compile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::elf::{ElfFile32, ElfFile64};
use object::{Architecture, LittleEndian, Object, ObjectSection, ObjectSymbol};
use pare::board::AlignedBytes;
use pare::deploy::deploy;
use pare::emit::{ObjectArch, c_header, object_file, rust_stub};
use pare::lower::LowerConfig;
use pare::models::bundled;
use pare::policy::{EdgeLayers, Policy, WeightFormat};
use pare::quant::{BiasCorrection, CalibrationConfig, ClipMethod, CodeBank, QuantConfig, Rounding, calibrate};
use pare_runtime::Model;
use pare_runtime::format::Layout;

/// The built-in network at 4 weight bits.
fn blob() -> AlignedBytes {
    let graph = bundled().graph;
    let inputs: Vec<f32> = (0..4 * 1024).map(|i| (i * 37 % 256) as f32 / 256.0).collect();
    let calibration = calibrate(&graph, &inputs, 4, &CalibrationConfig::with_seed(0)).unwrap();
    let config = QuantConfig {
        clip: ClipMethod::MinMax,
        rounding: Rounding::Nearest,
        bias_correction: BiasCorrection::Off,
        ..QuantConfig::USUAL
    };
    let bank = CodeBank::new(&graph, &calibration, &config).unwrap();
    let policy = Policy::uniform(&graph, WeightFormat::Linear(4), 8, EdgeLayers::EightBit);
    let deployed = deploy(&bank, &policy, &LowerConfig::new(Layout::Plain), "{}").unwrap();
    AlignedBytes::from(&deployed.blob.bytes[..])
}

#[test]
fn objects_hold_the_blob_and_its_sizes() {
    let blob = blob();
    let arena = Model::parse(&blob).unwrap().arena_bytes();
    // The flags as compilers for these targets write them.
    for (arch, expected, flags) in [
        (ObjectArch::X86_64, Architecture::X86_64, 0),
        (ObjectArch::ArmSoftFloat, Architecture::Arm, 0x0500_0200),
        (ObjectArch::ArmHardFloat, Architecture::Arm, 0x0500_0400),
        (ObjectArch::Aarch64, Architecture::Aarch64, 0),
        (ObjectArch::Riscv32, Architecture::Riscv32, 0x1),
        (ObjectArch::Riscv64, Architecture::Riscv64, 0x5),
    ] {
        let bytes = object_file("my-net", &blob, arena, arch).unwrap();
        let is_32_bit = bytes[4] == 1;
        let at = if is_32_bit { 36 } else { 48 };
        assert_eq!(bytes[at..at + 4], u32::to_le_bytes(flags), "{arch:?}");
        if is_32_bit {
            check_object(&ElfFile32::<LittleEndian>::parse(&bytes[..]).unwrap(), expected, &blob, arena);
        } else {
            check_object(&ElfFile64::<LittleEndian>::parse(&bytes[..]).unwrap(), expected, &blob, arena);
        }
    }
}

fn check_object<'a>(file: &impl Object<'a>, expected: Architecture, blob: &[u8], arena: usize) {
    assert_eq!(file.architecture(), expected);
    let content = |name: &str| {
        let symbol = file.symbols().find(|s| s.name() == Ok(name)).unwrap_or_else(|| panic!("no symbol {name}"));
        assert!(symbol.is_global() && symbol.is_definition(), "{name}");
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        assert_eq!(section.name(), Ok(".rodata"));
        assert!(section.align() >= 64);
        let range = symbol.address() as usize..(symbol.address() + symbol.size()) as usize;
        (symbol.address(), section.data().unwrap()[range].to_vec())
    };
    let (address, bytes) = content("my_net");
    assert!(address.is_multiple_of(64) && bytes == blob);
    assert_eq!(content("my_net_size").1, (blob.len() as u32).to_le_bytes());
    assert_eq!(content("my_net_arena_size").1, (arena as u32).to_le_bytes());
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn a_c_program_links_the_object_through_its_header() {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: no C compiler here; install one as `cc`");
        return;
    }
    let (blob, dir) = (blob(), tempfile::tempdir().unwrap());
    let model = Model::parse(&blob).unwrap();
    let object = object_file("my-net", &blob, model.arena_bytes(), ObjectArch::X86_64).unwrap();
    fs::write(dir.path().join("my-net.o"), object).unwrap();
    fs::write(dir.path().join("my-net.h"), c_header("my-net", &model)).unwrap();
    let main = "#include \"my-net.h\"\n#include <stdio.h>\n\
        int main(void) {\n  static uint8_t arena[MY_NET_ARENA_BYTES];\n  \
        printf(\"%u %u %u %c %zu %u %d %d\\n\", (unsigned)my_net_size, (unsigned)my_net_arena_size,\n         \
        (unsigned)((uintptr_t)my_net % 64), my_net[0], sizeof arena + sizeof my_net, MY_NET_INPUT0_BYTES,\n         \
        MY_NET_OUTPUT0_SCALE > 0.0f, MY_NET_OUTPUT0_ZERO);\n  return 0;\n}\n";
    fs::write(dir.path().join("main.c"), main).unwrap();
    let flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wl,--fatal-warnings"];
    run(Command::new("cc").args(flags).args(["main.c", "my-net.o", "-o", "main"]).current_dir(dir.path()));
    let (input, output) = (model.inputs().next().unwrap(), model.outputs().next().unwrap());
    let (size, arena) = (blob.len(), model.arena_bytes());
    let expected = format!("{size} {arena} 0 P {} {} 1 {}\n", arena + size, input.shape.len(), output.zero);
    assert_eq!(run(&mut Command::new(dir.path().join("main"))), expected);
}

#[test]
fn a_rust_program_runs_the_stub() {
    let (blob, dir) = (blob(), tempfile::tempdir().unwrap());
    let model = Model::parse(&blob).unwrap();
    fs::write(dir.path().join("my-net.pare"), &*blob).unwrap();
    fs::write(dir.path().join("my_net.rs"), rust_stub("my-net", &model)).unwrap();
    let main = "#![allow(dead_code)]\nmod my_net;\nuse pare_runtime::{Arena, Session};\n\
        fn main() {\n    let mut arena = Arena::<{ my_net::ARENA_BYTES }>::new();\n    \
        let mut session = Session::new(my_net::model().unwrap(), &mut arena.0).unwrap();\n    \
        session.input(0).fill(my_net::INPUT0_ZERO);\n    session.run();\n    \
        println!(\"{} {} {}\", my_net::MODEL.len(), session.output(0).len(), my_net::OUTPUT0_SCALE);\n}\n";
    fs::write(dir.path().join("main.rs"), main).unwrap();
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let runtime = format!("pare_runtime={}", newest_runtime(&deps).display());
    let dependency = format!("dependency={}", deps.display());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let flags = ["--edition=2024", "-Dwarnings", "--extern", &runtime, "-L", &dependency, "main.rs", "-o", "main"];
    run(Command::new(rustc).args(flags).current_dir(dir.path()));
    let output = model.outputs().next().unwrap();
    let expected = format!("{} {} {}\n", blob.len(), output.shape.len(), output.scale);
    assert_eq!(run(&mut Command::new(dir.path().join("main"))), expected);
}

/// The runtime as this test was linked with it.
fn newest_runtime(deps: &Path) -> PathBuf {
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let is_runtime = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libpare_runtime-") && name.ends_with(".rlib")
    };
    files.filter(is_runtime).max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap()
}

/// What a command prints; it must succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
