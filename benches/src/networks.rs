//! Networks without data: what is counted of them hardly depends on numbers.

use std::error::Error;
use std::path::{Path, PathBuf};

use pare::ir::Graph;
use pare::quant::{BiasCorrection, Calibration, CalibrationConfig, ClipMethod, QuantConfig, Rounding, calibrate};

/// Statistics over a pattern.
///
/// # Errors
/// When the network cannot be evaluated.
pub fn pattern(network: &Graph) -> Result<Calibration, Box<dyn Error>> {
    let len: usize = network.inputs.iter().map(|&input| network.value(input).len()).sum();
    let inputs: Vec<f32> = (0..4 * len).map(|i| (i * 37 % 256) as f32 / 256.0).collect();
    Ok(calibrate(network, &inputs, 4, &CalibrationConfig::with_seed(0))?)
}

/// The least effort.
pub const PLAIN: QuantConfig = QuantConfig {
    clip: ClipMethod::MinMax,
    rounding: Rounding::Nearest,
    bias_correction: BiasCorrection::Off,
    ..QuantConfig::USUAL
};

/// A network of the benchmarks by its file, where they are at hand: in `$PARE_SHARED`, or in a folder `shared` beside the
/// workspace or above it.
pub fn shared(file: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared"));
    let roots = std::env::var_os("PARE_SHARED").map(PathBuf::from).into_iter().chain(above);
    roots.map(|root| root.join("models").join(file)).find(|path| path.exists())
}
