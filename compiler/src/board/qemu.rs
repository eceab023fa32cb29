//! Microcontrollers emulated by QEMU, which counts instructions exactly.
//!
//! With `-icount shift=N` every instruction advances the guest's clock by 2^N ns, so that the timers of the machine
//! tell how many were executed: the same number in every run. An instruction is not a cycle: for chips whose timings are
//! known, a plugin estimates those ([`super::cycles`]).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pare_runtime::format::Layout;
use pare_runtime::{Isa, Model};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::chip::Uart;
use super::cycles::{Timings, Trace};
use super::firmware::{self, Core, Counter, Memory};
use super::{Board, BoardError, FirstInference, Timing, settle};
use crate::emit::ObjectArch;
use crate::units::{Bytes, TickUnit};

/// A machine of an emulator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The emulator.
    pub program: String,
    /// Its `-machine`.
    pub machine: String,
    /// An instruction takes 2^this ns of the guest's time.
    pub icount_shift: u32,
    /// What its firmware is compiled for.
    pub core: Core,
    /// Where things lie.
    pub memory: Memory,
    /// What tells the guest's time.
    pub counter: Counter,
    /// The port that its firmware may be served by, instead of finding its job in memory.
    #[serde(default)]
    pub uart: Option<Uart>,
}

/// Why the emulator gave no results.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// There is no emulator.
    #[error(
        "there is no {0}: install QEMU's system emulators (Debian: qemu-system-arm, qemu-system-misc), or run targets/setup"
    )]
    Missing(String),
    /// It could not be started, or its input not be written.
    #[error("{program}: {source}")]
    Io {
        /// The emulator.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The firmware ended with a message of its own.
    #[error("{machine}: {message}")]
    Firmware {
        /// The emulated machine.
        machine: String,
        /// What the firmware said.
        message: String,
    },
    /// The emulator or the firmware ended early.
    #[error("{machine}: the firmware ended without a result: {log}")]
    Ended {
        /// The emulated machine.
        machine: String,
        /// What the emulator said.
        log: String,
    },
    /// Nothing came for a long time.
    #[error("{machine}: no result after {} s; it was stopped", .limit.as_secs())]
    TooSlow {
        /// The emulated machine.
        machine: String,
        /// The time it had.
        limit: Duration,
    },
}

/// One emulated machine.
#[derive(Debug)]
pub struct Emulator {
    name: String,
    qemu: Qemu,
    /// Those of the chip that is meant, where they are known: cycles are told then, else instructions.
    timings: Option<Timings>,
    /// The directory of the firmware, once built.
    programs: OnceLock<PathBuf>,
}

/// An emulated inference takes a second or so: who waits this long waits for ever.
const LIMIT: Duration = Duration::from_secs(600);

impl Emulator {
    /// The machine of the target `name`; nothing is built or started yet.
    pub fn new(name: &str, qemu: Qemu) -> Emulator {
        Emulator { name: name.to_owned(), qemu, timings: None, programs: OnceLock::new() }
    }

    /// The same, counting the cycles of a chip with these timings.
    pub fn timed_by(self, timings: Timings) -> Emulator {
        Emulator { timings: Some(timings), ..self }
    }

    /// A program of the firmware.
    fn program(&self, name: &str) -> Result<PathBuf, BoardError> {
        let programs = match self.programs.get() {
            Some(programs) => programs,
            None => {
                let built = firmware::build(&self.name, &self.qemu.core, &self.qemu.memory)?;
                self.programs.get_or_init(|| built)
            }
        };
        Ok(programs.join(name))
    }

    /// What `profile` says of a job, in cycles or instructions, as this board counts them.
    fn profile(&self, job: &[u8]) -> Result<Profile, BoardError> {
        let program = self.program("profile")?;
        let Some(timings) = self.timings else {
            let lines = self.qemu.emulate(&program, job, None)?;
            return Ok(Profile::read(&lines, |ticks| self.qemu.instructions(ticks)));
        };
        let trace = timings.trace(&program, &self.qemu.memory)?;
        let lines = self.qemu.emulate(&program, job, Some(&trace))?;
        let mut cycles = trace.stretches()?.into_iter();
        // The plugin's readings are as many as the firmware's.
        Ok(Profile::read(&lines, |_| cycles.next().map_or(f64::NAN, |n| n as f64)))
    }

    /// The samples of `codes` back to back, in one job.
    fn infer(&self, blob: &[u8], isa: Isa, codes: &[u8], outputs: &mut [u8]) -> Result<(), BoardError> {
        let Qemu { memory, counter, .. } = &self.qemu;
        let lines =
            self.qemu.emulate(&self.program("infer")?, &firmware::job(memory, counter, isa, blob, codes)?, None)?;
        let digits = lines.iter().filter_map(|line| line.strip_prefix("output "));
        let digits: String = digits.flat_map(str::split_whitespace).collect();
        if digits.len() != 2 * outputs.len() {
            return Err(self.ended(lines.last()).into());
        }
        for (i, code) in outputs.iter_mut().enumerate() {
            let byte = digits.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *code = byte.ok_or_else(|| self.ended(lines.last()))?;
        }
        Ok(())
    }

    fn ended(&self, last: Option<&String>) -> EmulatorError {
        let log = last.cloned().unwrap_or_else(|| "it wrote nothing".to_owned());
        EmulatorError::Ended { machine: self.qemu.machine.clone(), log }
    }
}

impl Board for Emulator {
    fn processor(&self) -> String {
        let Qemu { core, program, machine, .. } = &self.qemu;
        let timings = self.timings.map_or_else(String::new, |timings| format!("; {}", timings.describe()));
        format!("{} ({program} -machine {machine}){timings}", core.cpu)
    }

    fn isas(&self) -> Vec<Isa> {
        self.qemu.core.kernels.clone()
    }

    fn unit(&self) -> TickUnit {
        if self.timings.is_some() { TickUnit::Cycles } else { TickUnit::Instructions }
    }

    fn layout(&self, isa: Isa) -> Layout {
        isa.layout()
    }

    fn object_arch(&self) -> ObjectArch {
        self.qemu.core.object_arch()
    }

    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError> {
        let model = Model::parse(blob)?;
        let [input_len, output_len] =
            [model.inputs().map(|t| t.shape.len()).sum(), model.outputs().map(|t| t.shape.len()).sum::<usize>()];
        let samples = codes.len() / input_len;
        // An emulator has one thread: as many of them as this machine has threads.
        let share = samples.div_ceil(rayon::current_num_threads()).max(1);
        let share = share.min(firmware::samples_a_job(&self.qemu.memory, &model));
        let mut outputs = vec![0; samples * output_len];
        let jobs = outputs.par_chunks_mut(share * output_len).zip(codes.par_chunks(share * input_len));
        jobs.try_for_each(|(outputs, codes)| self.infer(blob, isa, codes, outputs))?;
        Ok(outputs)
    }

    /// One run tells all: they are the same to the instruction.
    fn time(&self, blob: &[u8], isa: Isa, codes: &[u8], _runs: usize) -> Result<Timing, BoardError> {
        let Qemu { memory, counter, .. } = &self.qemu;
        let Profile { stretches, stack } = self.profile(&firmware::job(memory, counter, isa, blob, codes)?)?;
        let ended = || self.ended(stretches.last().map(|(words, _)| words));
        let one = |word: &str| {
            let found = stretches.iter().find(|(words, _)| words == word);
            found.map(|&(_, ticks)| ticks).ok_or_else(ended)
        };
        let total = one("run")?;
        let model = Model::parse(blob)?;
        let mut isas = vec![None; model.layers().len()];
        let mut layers = vec![vec![0.0]; isas.len()];
        // A layer of a stage takes several turns.
        for (words, ticks) in &stretches {
            if let Some((index, isa)) = words.strip_prefix("layer ").and_then(|words| words.split_once(' ')) {
                let index: usize = index.parse().map_err(|_| ended())?;
                layers.get_mut(index).ok_or_else(ended)?[0] += *ticks;
                isas[index] = Some(isa.parse().map_err(|_| ended())?);
            }
        }
        let isas = isas.into_iter().collect::<Option<Vec<_>>>().ok_or_else(ended)?;
        settle(&mut layers, total);
        let first = FirstInference { parse: one("parse")?, setup: one("setup")?, run: one("first")? };
        Ok(Timing { unit: self.unit(), total: vec![total], layers, isas, first, yardstick: 1.0, quiet: 1.0, stack })
    }
}

/// What a run on the board was like.
struct Profile {
    /// Stretches of work: what each was, and how long it took.
    stretches: Vec<(String, f64)>,
    /// The most of the stack that was in use.
    stack: Option<Bytes>,
}

impl Profile {
    /// Out of lines that end in a number: of bytes, or of ticks, which `ticks` turns into what is counted.
    fn read(lines: &[String], mut ticks: impl FnMut(u64) -> f64) -> Profile {
        let mut profile = Profile { stretches: Vec::new(), stack: None };
        for (words, number) in lines.iter().filter_map(|line| line.rsplit_once(' ')) {
            match number.parse() {
                Ok(bytes) if words == "stack" => profile.stack = Some(Bytes(bytes)),
                Ok(number) => profile.stretches.push((words.to_owned(), ticks(number))),
                Err(_) => {}
            }
        }
        profile
    }
}

impl Qemu {
    /// Instructions in so many ticks of the counter.
    fn instructions(&self, ticks: u64) -> f64 {
        (ticks as f64 * self.instructions_a_tick()).round()
    }

    /// Instructions in a tick of the counter, under emulation.
    pub(crate) fn instructions_a_tick(&self) -> f64 {
        1e9 / f64::from(self.counter.hz) / 2f64.powi(self.icount_shift as i32)
    }

    /// The lines that firmware writes for a job.
    fn emulate(&self, firmware: &Path, job: &[u8], trace: Option<&Trace>) -> Result<Vec<String>, EmulatorError> {
        let io = |source| EmulatorError::Io { program: self.program.clone(), source };
        let mut file = tempfile::NamedTempFile::new().map_err(io)?;
        file.write_all(job).map_err(io)?;
        // A comma in a path is doubled in options of QEMU.
        let path = file.path().display().to_string().replace(',', ",,");
        let mut child = Command::new(&self.program)
            .args(["-machine", &self.machine, "-display", "none", "-monitor", "none", "-serial", "none"])
            .args(["-semihosting-config", "enable=on,target=native"])
            .args(["-icount", &format!("shift={}", self.icount_shift)])
            .args(if self.program.contains("riscv") { &["-bios", "none"][..] } else { &[] })
            .arg("-device")
            .arg(format!("loader,file={path},addr={:#x},force-raw=on", self.memory.job.origin))
            .arg("-kernel")
            .arg(firmware)
            .args(trace.map_or_else(Vec::new, |trace| vec!["-plugin", trace.argument()]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => EmulatorError::Missing(self.program.clone()),
                _ => io(source),
            })?;
        let [stdout, stderr] = [reader(child.stdout.take()), reader(child.stderr.take())];
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(io)? {
                break status;
            }
            if begin.elapsed() > LIMIT {
                child.kill().map_err(io)?;
                child.wait().map_err(io)?;
                return Err(EmulatorError::TooSlow { machine: self.machine.clone(), limit: LIMIT });
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let [stdout, stderr] = [stdout, stderr].map(|text| text.join().unwrap_or_default());
        let lines: Vec<String> = stdout.lines().map(|line| line.trim_end().to_owned()).collect();
        let machine = self.machine.clone();
        if let Some(message) = lines.iter().find_map(|line| line.strip_prefix("error ")) {
            return Err(EmulatorError::Firmware { machine, message: message.trim().to_owned() });
        }
        if !status.success() {
            return Err(EmulatorError::Ended { machine, log: format!("{status}: {}", stderr.trim()) });
        }
        Ok(lines)
    }
}

/// Reads all of a pipe on a thread of its own: a full pipe would stop the emulator.
fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before a broken pipe is still worth showing.
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}
