//! Boards at a serial port: emulated ones whose port is a pseudo terminal, and lines that go wrong.
//!
//! Those that need an emulator are skipped where none, or no compiler for the core, is at hand; `PARE_EXPECT_BOARDS` makes
//! that a failure.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pare::board::firmware::{self, FirmwareError};
use pare::board::host::Host;
use pare::board::wire::{Board as Hello, FRAME_BYTES, PROTOCOL, Request, Response, frame, message, unframe};
use pare::board::{AlignedBytes, Board, runtime_version};
use pare::target::{Runner, Target};
use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_runtime::{Isa, Model};
use pare_tests::blob::{Builder, every_operator};
use pare_tests::problems::{ConvProblem, ConvSpec, Random};
use serialport::{SerialPort, TTYPort};

/// An emulated board that runs `serve`, and the path of its port.
struct Emulated {
    child: Child,
    port: String,
}

impl Emulated {
    /// `None` where it cannot run here.
    fn start(target: &Target) -> Option<Emulated> {
        let Runner::Qemu(qemu) = &target.runner else { panic!("{} is not emulated", target.name) };
        let program = match firmware::build_serve(&target.name, &target.device().unwrap()) {
            Ok(program) => program,
            Err(error @ FirmwareError::NoTarget(_)) => return skipped(&target.name, &error.to_string()),
            Err(error) => panic!("{error}"),
        };
        let spawned = Command::new(&qemu.program)
            .args(["-machine", &qemu.machine, "-display", "none", "-monitor", "none", "-serial", "pty"])
            .args(["-icount", &format!("shift={}", qemu.icount_shift)])
            .args(if qemu.program.contains("riscv") { &["-bios", "none"][..] } else { &[] })
            .arg("-kernel")
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return skipped(&target.name, &format!("{}: {error}", qemu.program)),
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split_whitespace().find(|word| word.starts_with("/dev/")).unwrap().to_owned();
        Some(Emulated { child, port })
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn skipped<T>(board: &str, why: &str) -> Option<T> {
    assert!(std::env::var_os("PARE_EXPECT_BOARDS").is_none(), "{board}: {why}");
    eprintln!("skipped: {board}: {why}");
    None
}

fn at(name: &str, port: &str) -> Box<dyn Board> {
    Target::find(name).unwrap().on_port(port).unwrap().board()
}

/// The blob of every operator, and random codes for a number of samples.
fn problem(samples: usize) -> (AlignedBytes, Vec<u8>) {
    let blob = AlignedBytes::from(&every_operator()[..]);
    let (model, mut random) = (Model::parse(&blob).unwrap(), Random(7));
    let mut codes = Vec::new();
    for tensor in (0..samples).flat_map(|_| model.inputs()) {
        codes.extend((0..tensor.shape.len()).map(|_| random.next() as u8 & tensor.max_code()));
    }
    (blob, codes)
}

#[test]
fn boards_at_a_port_give_the_bytes_of_the_reference_and_count_as_without_it() {
    let ((blob, codes), (_, one)) = (problem(3), problem(1));
    let expected = Host::default().run(&blob, Isa::Reference, &codes).unwrap();
    for name in ["cortex-m4", "rv32imac"] {
        let target = Target::find(name).unwrap();
        let Some(emulated) = Emulated::start(&target) else { continue };
        let (wired, board) = (at(name, &emulated.port), target.board());
        for isa in board.isas() {
            assert!(wired.run(&blob, isa, &codes).unwrap() == expected, "{name}, {isa} kernels");
        }
        let isa = board.best_isa();
        let [own, over] = [&board, &wired].map(|board| board.time(&blob, isa, &one, 1).unwrap());
        assert_eq!((own.unit, own.isas), (over.unit, over.isas.clone()), "{name}");
        let ratio = over.total[0] / own.total[0];
        // The compiler inlines one program a little otherwise than the other.
        assert!((0.98..1.02).contains(&ratio), "{name}: {:?}, without the port {:?}", over.total, own.total);
        let sum: f64 = over.layers.iter().map(|layer| layer[0]).sum();
        assert!((sum - over.total[0]).abs() < 1.0 && over.stack.is_some_and(|stack| stack.0 > 0), "{name}: {sum}");
    }
}

#[test]
fn a_line_that_loses_and_adds_bytes_only_costs_time() {
    let Some(emulated) = Emulated::start(&Target::find("cortex-m4").unwrap()) else { return };
    let (blob, codes) = problem(2);
    let ends = TTYPort::pair().unwrap();
    let name = ends.1.name().unwrap();
    let mut device = serialport::new(&emulated.port, 115_200).timeout(Duration::from_millis(5)).open_native().unwrap();
    let mut host = ends.0;
    host.set_timeout(Duration::from_millis(5)).unwrap();
    thread::spawn(move || {
        let mut chunk = [0; 64];
        let mut passed = 0;
        loop {
            for towards_device in [true, false] {
                let (from, to) = if towards_device { (&mut host, &mut device) } else { (&mut device, &mut host) };
                let len = from.read(&mut chunk).unwrap_or(0);
                for &byte in &chunk[..len] {
                    passed += 1;
                    // One is lost, one is another, one comes twice.
                    let sent: &[u8] = match passed % 3001 {
                        1000 => &[],
                        2000 => &[byte ^ 0x10],
                        3000 => &[byte, byte],
                        _ => &[byte],
                    };
                    if to.write_all(sent).is_err() {
                        return;
                    }
                }
            }
        }
    });
    let expected = Host::default().run(&blob, Isa::Reference, &codes).unwrap();
    assert!(at("cortex-m4", &name).run(&blob, Isa::Dsp, &codes).unwrap() == expected);
}

#[test]
fn a_board_that_goes_away_is_an_error_that_says_so() {
    let Some(mut emulated) = Emulated::start(&Target::find("cortex-m4").unwrap()) else { return };
    let (blob, codes) = problem(2000);
    let board = at("cortex-m4", &emulated.port);
    let ran = thread::scope(|scope| {
        let run = scope.spawn(|| board.run(&blob, Isa::Portable, &codes));
        thread::sleep(Duration::from_millis(700));
        emulated.child.kill().unwrap();
        run.join().unwrap()
    });
    let error = ran.unwrap_err().to_string();
    assert!(error.contains(&emulated.port) && error.contains("cable"), "{error}");
    // There is no such port any more.
    let error = board.run(&blob, Isa::Portable, &codes).unwrap_err().to_string();
    assert!(error.contains("cannot be opened") || error.contains("broke off"), "{error}");
}

/// Something at a port that answers what it is sent as `answer` says; the port's path.
fn pretender(mut answer: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> String {
    let (mut own, other) = TTYPort::pair().unwrap();
    let name = other.name().unwrap();
    own.set_timeout(Duration::from_millis(20)).unwrap();
    thread::spawn(move || {
        // The other end stays open while nobody listens.
        let _open = other;
        let mut chunk = [0; 1024];
        loop {
            let len = own.read(&mut chunk).unwrap_or(0);
            if own.write_all(&answer(&chunk[..len])).is_err() {
                return;
            }
        }
    });
    name
}

/// A board that answers each request that comes whole.
fn pretended(mut answer: impl FnMut(Request<'_>) -> Response<'static> + Send + 'static) -> String {
    let mut unread = Vec::new();
    pretender(move |bytes| {
        unread.extend(bytes);
        let mut answers = Vec::new();
        while let Some(end) = unread.iter().position(|&byte| byte == 0) {
            let mut request: Vec<u8> = unread.drain(..=end).collect();
            request.pop();
            if let Some((number, request)) = unframe(&mut request) {
                let mut buffer = [0; FRAME_BYTES];
                answers.extend(frame(number, &answer(message(request).unwrap()), &mut buffer).unwrap());
            }
        }
        answers
    })
}

fn hello(runtime: &'static str, protocol: u16) -> Response<'static> {
    let (target, ram_bytes, flash_address, flash_bytes) = ("cortex-m4", 1024, 0x0800_0000, 1 << 20);
    Response::Board(Hello { protocol, target, runtime, ram_bytes, flash_address, flash_bytes })
}

/// What a run of a board at a port that cannot work says.
fn refusal(port: &str) -> String {
    let (blob, codes) = problem(1);
    let begin = Instant::now();
    let error = at("cortex-m4", port).run(&blob, Isa::Portable, &codes).unwrap_err().to_string();
    assert!(begin.elapsed() < Duration::from_secs(20), "{error}: after {:?}", begin.elapsed());
    error
}

#[test]
fn silence_and_noise_are_told_apart() {
    let mut random = Random(3);
    let error = refusal(&pretender(|_| Vec::new()));
    assert!(error.contains("no answer") && error.contains("pare targets"), "{error}");
    let error = refusal(&pretender(move |_| (0..64).map(|_| random.next() as u8).collect()));
    assert!(error.contains("115200 baud"), "{error}");
    let error = refusal("/dev/absent");
    assert!(error.contains("/dev/absent cannot be opened"), "{error}");
}

#[test]
fn firmware_of_another_version_is_refused_with_the_remedy() {
    for (runtime, protocol) in [("0.0.9+0", PROTOCOL), (runtime_version().leak(), PROTOCOL + 1)] {
        let error = refusal(&pretended(move |_| hello(runtime, protocol)));
        assert!(error.contains(runtime) && error.contains("pare targets cortex-m4 --build"), "{error}");
    }
}

#[test]
fn a_network_larger_than_the_boards_memory_is_refused_with_both_numbers() {
    let runtime: &str = runtime_version().leak();
    let error = refusal(&pretended(move |request| match request {
        Request::Hello => hello(runtime, PROTOCOL),
        _ => Response::Found(None),
    }));
    assert!(error.contains("KiB of RAM (") && error.contains("has 1 KiB"), "{error}");
    assert!(error.contains("--max-ram"), "{error}");
}

/// The UART of Nordic's chips, on the nRF51 of a micro:bit; time is told by the system tick.
#[test]
fn a_port_of_another_kind_serves_too() {
    let text = include_str!("../../targets/boards/cortex-m0plus.toml");
    let (head, _) = text.split_once("[runner.qemu.memory]").unwrap();
    let text = head
        .replace("mps2-an385", "microbit")
        .replace("cortex-m0plus", "microbit")
        .replace("cpu = \"microbit\"", "cpu = \"cortex-m0\"")
        + "[runner.qemu.memory]
flash = { origin = 0x0000_0000, bytes = 0x0004_0000 }
ram = { origin = 0x2000_0000, bytes = 0x0000_4000 }
job = { origin = 0x0003_f000, bytes = 0x0000_1000 }

[runner.qemu.counter]
kind = \"sys-tick\"
hz = 16_000_000

[runner.qemu.uart]
kind = \"nrf\"
address = 0x4000_2000
baud = 115_200
divisor = 0x01d7_e000
";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("microbit.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let Some(emulated) = Emulated::start(&Target::find(&path).unwrap()) else { return };
    // Two KiB of network and some RAM beside 8 KiB of stack.
    let mut blob = Builder::default();
    let conv = ConvSpec::dense(Shape { h: 5, w: 6, c: 3 }, 4, 3, 1, WeightFormat::Linear(8), Layout::Words);
    let conv = ConvProblem::new(conv);
    let input = blob.input(&conv);
    let output = blob.conv(input, &conv);
    blob.outputs.push(output);
    let blob = AlignedBytes::from(&blob.finish()[..]);
    let codes = vec![9; 5 * 6 * 3];
    let board = at(&path, &emulated.port);
    let expected = Host::default().run(&blob, Isa::Reference, &codes).unwrap();
    assert!(board.run(&blob, Isa::Portable, &codes).unwrap() == expected);
    let timing = board.time(&blob, Isa::Portable, &codes, 1).unwrap();
    assert!(timing.total[0] > 0.0);
    let (large, codes) = problem(1);
    let error = board.run(&large, Isa::Portable, &codes).unwrap_err().to_string();
    assert!(error.contains("of RAM"), "{error}");
}
