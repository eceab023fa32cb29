//! Source files that go with a blob: a C header and a Rust stub.

use pare_runtime::Model;
use pare_runtime::format::Tensor;

/// Declarations of the symbols of the object file, and the numbers that firmware needs.
pub fn c_header(name: &str, model: &Model<'_>) -> String {
    let symbol = super::symbol(name);
    let upper = symbol.to_uppercase();
    let mut text = format!(
        "/* {name}: made by `pare compile`. Link {name}.o, or embed {name}.pare at a 64-byte aligned address. */\n\
         #ifndef {upper}_H\n#define {upper}_H\n\n#include <stdint.h>\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n\
         #define {upper}_BLOB_BYTES {}u\n#define {upper}_ARENA_BYTES {}u\n\n",
        model.bytes().len(),
        model.arena_bytes(),
    );
    for (kind, index, tensor) in endpoints(model) {
        let prefix = format!("{upper}_{}{index}", kind.to_uppercase());
        text += &format!(
            "/* {kind} {index}: real = scale * (code - zero) */\n\
             #define {prefix}_BYTES {}u\n#define {prefix}_SCALE {:e}f\n#define {prefix}_ZERO {}\n\n",
            tensor.shape.len(),
            tensor.scale,
            tensor.zero,
        );
    }
    text += &format!(
        "extern const uint8_t {symbol}[{upper}_BLOB_BYTES];\n\
         extern const uint32_t {symbol}_size;\nextern const uint32_t {symbol}_arena_size;\n\n\
         #ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
    );
    text
}

/// A module that embeds the blob and sizes its arena at compile time.
pub fn rust_stub(name: &str, model: &Model<'_>) -> String {
    let mut text = format!(
        "//! {name}: made by `pare compile`. Needs the crate `pare-runtime`; put `{name}.pare` beside this file.\n\n\
         #[repr(align(64))]\nstruct Aligned([u8; {}]);\n\n\
         static BLOB: Aligned = Aligned(*include_bytes!(\"{name}.pare\"));\n\n\
         /// The network.\npub static MODEL: &[u8] = &BLOB.0;\n\n\
         /// Activations: `pare_runtime::Arena<ARENA_BYTES>`.\n\
         pub const ARENA_BYTES: usize = pare_runtime::arena_bytes(&BLOB.0);\n\n\
         const _: () = assert!(\n    \
         pare_runtime::KernelSet::LINKED.contains(pare_runtime::KernelSet::of(&BLOB.0)),\n    \
         \"PARE_NETWORKS names other networks alone: add {name}.pare\"\n);\n\n\
         /// Checks the blob; do it once.\n///\n/// # Errors\n/// When the blob was damaged.\n\
         pub fn model() -> Result<pare_runtime::Model<'static>, pare_runtime::FormatError> {{\n    \
         pare_runtime::Model::parse(MODEL)\n}}\n",
        model.bytes().len(),
    );
    for (kind, index, tensor) in endpoints(model) {
        let prefix = format!("{}{index}", kind.to_uppercase());
        text += &format!(
            "\n/// Real width of a step of {kind} {index}, {} codes.\npub const {prefix}_SCALE: f32 = {:?};\n\
             /// Code of real 0 of {kind} {index}.\npub const {prefix}_ZERO: u8 = {};\n",
            tensor.shape.len(),
            tensor.scale,
            tensor.zero,
        );
    }
    text
}

fn endpoints(model: &Model<'_>) -> Vec<(&'static str, usize, Tensor)> {
    let inputs = model.inputs().enumerate().map(|(i, t)| ("input", i, t));
    let outputs = model.outputs().enumerate().map(|(i, t)| ("output", i, t));
    inputs.chain(outputs).collect()
}
