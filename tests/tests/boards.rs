//! Microcontrollers under emulation: their firmware gives the bytes of the reference, and errors where it cannot.
//!
//! Skipped where no emulator or no compiler for a core is at hand; `PARE_EXPECT_BOARDS` makes that a failure.

use pare::board::firmware::FirmwareError;
use pare::board::host::Host;
use pare::board::qemu::{Emulator, EmulatorError};
use pare::board::{AlignedBytes, Board, BoardError};
use pare::target::{Runner, Target};
use pare::units::TickUnit;
use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_runtime::{Isa, Model};
use pare_tests::blob::{Builder, every_operator, seal};
use pare_tests::problems::{ConvProblem, ConvSpec, Random};

/// All emulated targets that run here.
fn boards() -> Vec<(Target, Box<dyn Board>)> {
    let all = Target::built_in().unwrap().into_iter().filter(|target| matches!(target.runner, Runner::Qemu(_)));
    all.map(|target| (target.board(), target)).filter_map(|(board, target)| Some((target, ready(board)?))).collect()
}

/// The emulated Cortex-M4, if it runs here, to be changed.
fn cortex_m4() -> Option<pare::board::qemu::Qemu> {
    let target = Target::find("qemu:cortex-m4").unwrap();
    ready(target.board())?;
    let Runner::Qemu(qemu) = target.runner else { return None };
    Some(qemu)
}

fn ready(board: Box<dyn Board>) -> Option<Box<dyn Board>> {
    let blob = AlignedBytes::from(&every_operator()[..]);
    match board.run(&blob, Isa::Reference, &inputs(&blob, 1)) {
        Ok(_) => Some(board),
        Err(
            error
            @ (BoardError::Firmware(FirmwareError::NoTarget(_)) | BoardError::Emulator(EmulatorError::Missing(_))),
        ) if std::env::var_os("PARE_EXPECT_BOARDS").is_none() => {
            eprintln!("skipped: {}: {error}", board.processor());
            None
        }
        Err(error) => panic!("{}: {error}", board.processor()),
    }
}

/// Random codes for all inputs of a blob, a number of samples back to back.
fn inputs(blob: &[u8], samples: usize) -> Vec<u8> {
    let (model, mut random) = (Model::parse(blob).unwrap(), Random(7));
    let mut codes = Vec::new();
    for tensor in (0..samples).flat_map(|_| model.inputs()) {
        codes.extend((0..tensor.shape.len()).map(|_| random.next() as u8 & tensor.max_code()));
    }
    codes
}

/// Convolutions of all kinds, each with all weight formats, of inputs of so many bits.
fn every_format(bits_in: u8, layout: Layout) -> AlignedBytes {
    let shape = |h, w, c| Shape { h, w, c };
    let mut blob = Builder::default();
    let linear = (1..=8).map(WeightFormat::Linear);
    for format in linear.chain([WeightFormat::Ternary]).chain((2..=4).map(WeightFormat::Codebook)) {
        for spec in [
            ConvSpec::dense(shape(5, 6, 7), 9, 3, 1, format, layout),
            ConvSpec::dense(shape(7, 5, 8), 8, 3, 2, format, layout),
            ConvSpec::dense(shape(3, 5, 12), 10, 1, 1, format, layout),
            ConvSpec::dense(shape(1, 1, 37), 6, 1, 1, format, layout),
            ConvSpec::depthwise(shape(6, 7, 10), 3, 1, format, layout),
        ] {
            let problem = ConvProblem::new(ConvSpec { bits_in, ..spec });
            let input = blob.input(&problem);
            let output = blob.conv(input, &problem);
            blob.outputs.push(output);
        }
    }
    AlignedBytes::from(&blob.finish()[..])
}

#[test]
fn boards_give_the_bytes_of_the_reference() {
    let whole = AlignedBytes::from(&every_operator()[..]);
    for (target, board) in boards() {
        for isa in board.isas() {
            let layout = board.layout(isa);
            let formats = [8, 4, 2].map(|bits| (format!("every format, {bits} bits"), every_format(bits, layout)));
            for (what, blob) in [("every operator".to_owned(), whole.clone())].into_iter().chain(formats) {
                let codes = inputs(&blob, 3);
                let expected = Host::default().run(&blob, Isa::Reference, &codes).unwrap();
                let outputs = board.run(&blob, isa, &codes).unwrap();
                assert!(outputs == expected, "{}, {isa} kernels: {what}", target.name);
            }
        }
    }
}

#[test]
fn boards_refuse_what_they_cannot_run_and_say_why() {
    let refusal = |board: &dyn Board, blob: &[u8]| {
        let error = board.time(blob, Isa::Reference, &[0; 6 * 6 * 4], 1).unwrap_err();
        error.to_string()
    };
    let blob = every_operator();
    for (target, board) in boards() {
        let mut damaged = blob.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(refusal(&*board, &damaged).contains("checksum"), "{}", target.name);
        let mut of_another_target = blob.clone();
        of_another_target[6] = 99;
        seal(&mut of_another_target);
        assert!(refusal(&*board, &of_another_target).contains("layout 99"), "{}", target.name);
        // As much as there is RAM, some of which is stack.
        let Runner::Qemu(qemu) = &target.runner else { continue };
        let mut hungry = blob.clone();
        hungry[16..20].copy_from_slice(&qemu.memory.ram.bytes.to_le_bytes());
        seal(&mut hungry);
        assert!(refusal(&*board, &hungry).contains("the model needs"), "{}", target.name);
        hungry[16..20].copy_from_slice(&(qemu.memory.ram.bytes + 1).to_le_bytes());
        seal(&mut hungry);
        assert!(refusal(&*board, &hungry).contains("--max-ram"), "{}", target.name);
    }
}

#[test]
fn a_network_larger_than_the_memory_names_the_remedy() {
    let Some(mut qemu) = cortex_m4() else { return };
    qemu.memory.job.bytes = 2048;
    let blob = AlignedBytes::from(&every_operator()[..]);
    let error = Emulator::new("cortex-m4", qemu).run(&blob, Isa::Reference, &inputs(&blob, 1)).unwrap_err();
    assert!(error.to_string().contains("--max-flash"), "{error}");
}

#[test]
fn an_absent_emulator_is_named_with_what_to_install() {
    let Some(mut qemu) = cortex_m4() else { return };
    "qemu-system-absent".clone_into(&mut qemu.program);
    let blob = AlignedBytes::from(&every_operator()[..]);
    let error = Emulator::new("cortex-m4", qemu).run(&blob, Isa::Reference, &inputs(&blob, 1)).unwrap_err().to_string();
    assert!(error.contains("qemu-system-absent") && error.contains("targets/setup"), "{error}");
}

#[test]
fn counts_are_the_same_every_time_and_add_up() {
    let Some(qemu) = cortex_m4() else { return };
    let (blob, board) = (AlignedBytes::from(&every_operator()[..]), Emulator::new("cortex-m4", qemu));
    let codes = inputs(&blob, 1);
    let time = || board.time(&blob, Isa::Portable, &codes, 1).unwrap();
    let (first, second) = (time(), time());
    assert_eq!(first.total, second.total);
    assert_eq!(first.layers, second.layers);
    let sum: f64 = first.layers.iter().map(|layer| layer[0]).sum();
    assert!((sum - first.total[0]).abs() < 1.0, "{sum} in layers of {}", first.total[0]);
}

/// The trace of a chip tells the same stretches of work as the counter, in cycles.
#[test]
fn cycles_of_a_chip_are_more_than_instructions_and_the_same_every_time() {
    let chip = Target::find("nucleo-l4r5zi").unwrap();
    let (Some(core), Some(traced)) = (ready(Target::find("cortex-m4").unwrap().board()), ready(chip.board())) else {
        return;
    };
    let blob = every_format(8, Layout::Words);
    let codes = inputs(&blob, 1);
    let [instructions, cycles, again] =
        [&core, &traced, &traced].map(|board| board.time(&blob, Isa::Dsp, &codes, 1).unwrap());
    assert_eq!((cycles.unit, cycles.total(0.5)), (TickUnit::Cycles, again.total(0.5)));
    let average = cycles.total[0] / instructions.total[0];
    assert!((1.0..3.0).contains(&average), "{average} cycles an instruction");
    let sum: f64 = cycles.layers.iter().map(|layer| layer[0]).sum();
    assert!((sum / cycles.total[0] - 1.0).abs() < 0.01, "{sum} of {:?}", cycles.total);
}
