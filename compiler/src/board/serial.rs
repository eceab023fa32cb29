//! Microcontrollers at a serial port, which run the firmware `serve`: networks, inputs, outputs and times go over the
//! wire, a request and its response at a time ([`wire`]).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pare_runtime::format::Layout;
use pare_runtime::{Isa, Model};

use super::firmware::Device;
use super::line::{Line, LineError};
use super::wire::{self, ALIGN, Board as Hello, DATA_BYTES, PROTOCOL, Place, Request, Response, checksum};
use super::{Board, BoardError, FirstInference, Timing, runtime_version, settle};
use crate::emit::ObjectArch;
use crate::units::{Bytes, TickUnit};

/// A board at a port.
pub struct Serial {
    name: String,
    device: Device,
    /// The name of its port; a board without one can be compiled for.
    port: Option<String>,
    /// Opened when first needed.
    line: Mutex<Option<Connected>>,
}

/// Why a board at a port gave no results.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// The line failed.
    #[error(transparent)]
    Line(#[from] LineError),
    /// No port was named.
    #[error("`{0}` is a board at a serial port: say which, as --port /dev/ttyACM0")]
    NoPort(String),
    /// The firmware is not of this build.
    #[error("{port}: the board runs firmware of {found}, and this is {wanted}: {remedy}")]
    Firmware {
        /// The port.
        port: String,
        /// What the board says.
        found: String,
        /// What this build needs.
        wanted: String,
        /// What to do.
        remedy: String,
    },
    /// The network does not fit.
    #[error(
        "the network takes {need} of RAM ({network} itself, {arena} of arena, {inputs} of inputs), and {port} has {have}: compile with a lower --max-ram{otherwise}"
    )]
    TooLarge {
        /// The port.
        port: String,
        /// All of it.
        need: Bytes,
        /// The blob, where it would lie in RAM.
        network: Bytes,
        /// Its arena.
        arena: Bytes,
        /// Its inputs.
        inputs: Bytes,
        /// What the board has.
        have: Bytes,
        /// Another way, where there is one.
        otherwise: String,
    },
    /// An answer was none to the question.
    #[error("{0}: the board's answer does not fit the question: reset the board and start again")]
    Confused(String),
}

/// Runs that are timed: on a chip they differ by little, under emulation by nothing.
const RUNS: usize = 5;
/// Longest run of a network, or of checking one.
const LONG: Duration = Duration::from_secs(60);
/// A board at a low clock checks a byte in no more time.
const BYTE: Duration = Duration::from_micros(20);

/// A line to a board that runs the right firmware.
struct Connected {
    line: Line,
    port: String,
    ram_bytes: usize,
    flash_address: u32,
    flash_bytes: usize,
}

impl Serial {
    /// The board of the target `name` at a port; nothing is opened yet.
    pub fn new(name: &str, device: Device, port: Option<String>) -> Serial {
        Serial { name: name.to_owned(), device, port, line: Mutex::new(None) }
    }

    /// Does something with the line, which opens with the first call.
    fn with<T>(&self, act: impl FnOnce(&mut Connected) -> Result<T, SerialError>) -> Result<T, SerialError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = match line.as_mut() {
            Some(connected) => connected,
            None => line.insert(self.connect()?),
        };
        let done = act(connected);
        if let Err(SerialError::Line(LineError::Lost { .. })) = done {
            *line = None;
        }
        done
    }

    fn connect(&self) -> Result<Connected, SerialError> {
        let port = self.port.clone().ok_or_else(|| SerialError::NoPort(self.name.clone()))?;
        let mut line = Line::open(&port, self.device.uart.baud)?;
        let remedy = format!("program it anew (`pare targets {} --build` says with what)", self.name);
        let answer = line.ask(&Request::Hello, Duration::ZERO).map_err(|error| match error {
            LineError::Protocol { port, .. } => LineError::Protocol { port, remedy: remedy.clone() },
            other => other,
        })?;
        let Some(Response::Board(Hello { protocol, target, runtime, ram_bytes, flash_address, flash_bytes })) =
            last(&answer)
        else {
            return Err(SerialError::Confused(port));
        };
        let say = |protocol, target: &str, runtime: &str| format!("{target}, runtime {runtime}, protocol {protocol}");
        let (found, wanted) =
            (say(protocol, target, runtime), say(PROTOCOL, self.name.as_str(), runtime_version().as_str()));
        if found != wanted {
            return Err(SerialError::Firmware { port, found, wanted, remedy });
        }
        let (ram_bytes, flash_bytes) = (ram_bytes as usize, flash_bytes as usize);
        Ok(Connected { line, port, ram_bytes, flash_address, flash_bytes })
    }

    /// What is counted in so many ticks.
    fn counted(&self, ticks: u64) -> f64 {
        (ticks as f64 * self.device.per_tick).round()
    }
}

impl Board for Serial {
    fn processor(&self) -> String {
        format!("{} ({}, at a serial port)", self.device.core.cpu, self.name)
    }

    fn isas(&self) -> Vec<Isa> {
        self.device.core.kernels.clone()
    }

    fn unit(&self) -> TickUnit {
        self.device.unit
    }

    fn layout(&self, isa: Isa) -> Layout {
        isa.layout()
    }

    fn object_arch(&self) -> ObjectArch {
        self.device.core.object_arch()
    }

    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
        let model = Model::parse(blob)?;
        let [input_len, output_len] =
            [model.inputs().map(|t| t.shape.len()).sum(), model.outputs().map(|t| t.shape.len()).sum::<usize>()];
        let mut outputs = Vec::with_capacity(codes.len() / input_len * output_len);
        self.with(|connected| {
            connected.open(&model, isa)?;
            for sample in codes.chunks(input_len) {
                connected.send(sample, |offset, bytes| Request::Input { offset, bytes })?;
                connected.run()?;
                connected.outputs(output_len, &mut outputs)?;
            }
            Ok(())
        })?;
        Ok(outputs)
    }

    fn time(&self, blob: &[u8], isa: Isa, codes: &[u8], runs: usize) -> Result<Timing, BoardError> {
        let model = Model::parse(blob)?;
        let timing = self.with(|connected| {
            let (parse, setup) = connected.open(&model, isa)?;
            connected.send(codes, |offset, bytes| Request::Input { offset, bytes })?;
            let (first, _) = connected.run()?;
            let runs = if self.unit() == TickUnit::Cycles { runs.clamp(1, RUNS) } else { 1 };
            let mut total = Vec::with_capacity(runs);
            for _ in 0..runs {
                total.push(self.counted(connected.run()?.0));
            }
            total.sort_by(f64::total_cmp);
            let (turns, stack) = connected.profile()?;
            let mut layers = vec![vec![0.0]; model.layers().len()];
            let mut isas = vec![None; layers.len()];
            // A layer of a stage takes several turns.
            for (index, isa, ticks) in turns {
                let confused = || SerialError::Confused(connected.port.clone());
                layers.get_mut(index).ok_or_else(confused)?[0] += self.counted(ticks);
                isas[index] = Some(*Isa::ALL.get(isa).ok_or_else(confused)?);
            }
            let isas = isas.into_iter().collect::<Option<Vec<_>>>();
            let isas = isas.ok_or_else(|| SerialError::Confused(connected.port.clone()))?;
            let [parse, setup, run] = [parse, setup, first].map(|ticks| self.counted(ticks));
            let first = FirstInference { parse, setup, run };
            let stack = Some(Bytes(stack.into()));
            Ok(Timing { unit: self.unit(), total, layers, isas, first, yardstick: 1.0, quiet: 1.0, stack })
        });
        let mut timing = timing?;
        let total = timing.total(0.5).value;
        settle(&mut timing.layers, total);
        Ok(timing)
    }
}

impl Connected {
    /// Starts a session on the board, after bringing the network there if it is not; ticks of parsing and setting up.
    fn open(&mut self, model: &Model<'_>, isa: Isa) -> Result<(u64, u64), SerialError> {
        let network = model.bytes();
        let (bytes, sum) = (network.len() as u32, checksum(&[network]));
        let checking = BYTE * bytes;
        let answer = self.line.ask(&Request::Find { bytes, sum }, checking)?;
        let Some(Response::Found(found)) = last(&answer) else { return self.confused() };
        let place = found.unwrap_or(Place::Ram);
        self.check_ram(model, isa, place)?;
        if found.is_none() {
            self.send(network, |offset, bytes| Request::Write { offset, bytes })?;
        }
        let isa = Isa::ALL.iter().position(|&known| known == isa).unwrap_or_default() as u8;
        let answer = self.line.ask(&Request::Open { place, bytes, isa }, checking)?;
        let Some(Response::Opened { parse, setup }) = last(&answer) else { return self.confused() };
        Ok((parse, setup))
    }

    /// Whether there is RAM for it all.
    fn check_ram(&self, model: &Model<'_>, isa: Isa, place: Place) -> Result<(), SerialError> {
        let len = model.bytes().len();
        let network = if place == Place::Ram { len.next_multiple_of(ALIGN) } else { 0 };
        let (arena, inputs) = (model.arena_bytes_with(isa), model.inputs().map(|t| t.shape.len()).sum::<usize>());
        let need = network + arena + inputs;
        if need <= self.ram_bytes {
            return Ok(());
        }
        let fits_without = need - network <= self.ram_bytes && len <= self.flash_bytes;
        let otherwise = if fits_without {
            format!(", or program the .pare file into its flash at {:#010x}, where it is found", self.flash_address)
        } else {
            String::new()
        };
        let [need, network, arena, inputs, have] =
            [need, network, arena, inputs, self.ram_bytes].map(|bytes| Bytes(bytes as u64));
        Err(SerialError::TooLarge { port: self.port.clone(), need, network, arena, inputs, have, otherwise })
    }

    /// Brings bytes to the board, piece by piece.
    fn send<'a>(&mut self, bytes: &'a [u8], piece: impl Fn(u32, &'a [u8]) -> Request<'a>) -> Result<(), SerialError> {
        for (index, bytes) in bytes.chunks(DATA_BYTES).enumerate() {
            let answer = self.line.ask(&piece((index * DATA_BYTES) as u32, bytes), Duration::ZERO)?;
            let Some(Response::Done) = last(&answer) else { return self.confused() };
        }
        Ok(())
    }

    /// Ticks of a run, and bytes of stack.
    fn run(&mut self) -> Result<(u64, u32), SerialError> {
        let answer = self.line.ask(&Request::Run, LONG)?;
        let Some(Response::Ran { ticks, stack, .. }) = last(&answer) else { return self.confused() };
        Ok((ticks, stack))
    }

    /// Index, place of the kernel family and ticks of each turn of a layer, and bytes of stack.
    #[allow(clippy::type_complexity, reason = "three numbers a turn")]
    fn profile(&mut self) -> Result<(Vec<(usize, usize, u64)>, u32), SerialError> {
        let answers = self.line.ask(&Request::Profile, LONG)?;
        let turn = |answer: &Vec<u8>| match wire::message(answer) {
            Some(Response::Layer { index, isa, ticks }) => Some((usize::from(index), usize::from(isa), ticks)),
            _ => None,
        };
        let Some(Response::Ran { stack, .. }) = last(&answers) else { return self.confused() };
        Ok((answers.iter().filter_map(turn).collect(), stack))
    }

    /// The outputs of the last run, behind others.
    fn outputs(&mut self, len: usize, outputs: &mut Vec<u8>) -> Result<(), SerialError> {
        let begin = outputs.len();
        while outputs.len() - begin < len {
            let offset = (outputs.len() - begin) as u32;
            let answer = self.line.ask(&Request::Output { offset }, Duration::ZERO)?;
            match last(&answer) {
                Some(Response::Output(codes)) if !codes.is_empty() => outputs.extend(codes),
                _ => return self.confused(),
            }
        }
        Ok(())
    }

    fn confused<T>(&self) -> Result<T, SerialError> {
        Err(SerialError::Confused(self.port.clone()))
    }
}

/// The response in the last of some messages.
fn last(answers: &[Vec<u8>]) -> Option<Response<'_>> {
    wire::message(answers.last()?)
}
