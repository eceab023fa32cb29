//! What a network is compiled for: data files with a strict schema, under `targets/boards/`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::board::accelerator::Accelerator;
use crate::board::chip::{Step, Uart};
use crate::board::cycles::Timings;
use crate::board::firmware::{Core, Counter, Device, Memory, Region};
use crate::board::job::CounterKind;
use crate::board::qemu::Qemu;
use crate::board::{self, Board};
use crate::cost::energy::EnergyModel;
use crate::policy::{Policy, WeightChoice, WeightFormat};
use crate::units::{Bytes, TickUnit, Ticks};

/// A description, one TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What `--target` calls it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// How blobs run on it.
    pub runner: Runner,
    /// What its latencies are counted in.
    pub unit: TickUnit,
    /// Weight formats that its kernels read: the search offers no others.
    pub weight_formats: Vec<WeightFormat>,
    /// Activation widths that its kernels take.
    pub activation_bits: Vec<u8>,
    /// Of these, the ones at which kernels are fastest: what a search chooses from unless told.
    pub searched_activation_bits: Vec<u8>,
    /// Channels that its kernels compute at once: where superfluous channels are removed, whole blocks stay.
    pub channel_block: usize,
    /// The chip that is meant, where one is.
    #[serde(default)]
    pub chip: Option<Chip>,
    /// What it spends energy on, where that is known.
    #[serde(default)]
    pub energy: Option<EnergyModel>,
    /// The serial port of a board that blobs run on, rather than under emulation: see [`Target::on_port`].
    #[serde(skip)]
    pub port: Option<String>,
}

/// A real chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// Cycles a second.
    pub clock_hz: u32,
    /// Where code and weights are.
    pub flash: Region,
    /// RAM that lies together.
    pub ram: Region,
    /// What counts its cycles.
    pub counter: CounterKind,
    /// How its cycles are told where nothing but its core is at hand: by estimate, in both ways.
    #[serde(default)]
    pub cycles: Option<Cycles>,
    /// The port that its firmware is served by.
    #[serde(default)]
    pub uart: Option<Uart>,
    /// What the clock and the port need first.
    #[serde(default)]
    pub setup: Vec<Step>,
}

/// Flash that firmware at a serial port takes; networks may have the rest.
const FIRMWARE_BYTES: u32 = 256 << 10;

/// From instructions, which an emulator counts, to cycles, which pass on a chip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cycles {
    /// By those that an instruction takes on average, waiting included.
    Average(f64),
    /// By a trace of what is executed.
    Traced(Timings),
}

impl Chip {
    /// Nanoseconds in a tick of `unit`.
    fn nanoseconds(&self, unit: TickUnit) -> f64 {
        let cycle = 1e9 / f64::from(self.clock_hz);
        match (unit, self.cycles) {
            (TickUnit::Nanoseconds, _) => 1.0,
            (TickUnit::Instructions, Some(Cycles::Average(cycles))) => cycle * cycles,
            (TickUnit::Cycles | TickUnit::Instructions, _) => cycle,
        }
    }
}

/// How blobs run on a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// In this process.
    Host,
    /// As firmware, in an emulator.
    Qemu(Qemu),
    /// As on the built-in target of this name, which has the same core.
    SameAs(String),
    /// As firmware, on the chip itself alone: a core that no emulator here has.
    Chip(Core),
    /// In this process, timed by a model of an accelerator.
    Model(Accelerator),
}

/// Why there is no such target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither a known name nor a file.
    #[error("there is no target `{name}`: use one of {known}, or the path of a target description (*.toml)")]
    Unknown {
        /// As given.
        name: String,
        /// Names there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no description.
    #[error("{path}, line {line}: {reason}")]
    Schema {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// It names another one that does not run by itself.
    #[error("{path}: there is no built-in target `{name}` with a runner of its own to be the same as")]
    NotTheSame {
        /// The file.
        path: String,
        /// The name in it.
        name: String,
    },
    /// A network is too large for the chip.
    #[error("the network takes {need} of {what} but {target} has {have}: compile with a bound by {flag}")]
    TooLarge {
        /// Name of the target.
        target: String,
        /// Flash or RAM.
        what: &'static str,
        /// What it takes.
        need: Bytes,
        /// What there is.
        have: Bytes,
        /// The option that bounds it.
        flag: &'static str,
    },
    /// Its description says nothing of a serial port.
    #[error("`{0}` has no serial port in its description: copy it and add one (README.md, \"Add a board\")")]
    NoSerial(String),
    /// It is none that an emulator runs.
    #[error("no emulator runs the target `{0}`: name it without `qemu:`")]
    NotEmulated(String),
    /// A policy asks for what the target has no kernels for.
    #[error("layer `{layer}`: target `{target}` has no kernels for {what}: choose from {instead}")]
    NoKernels {
        /// Name of the target.
        target: String,
        /// Name of the layer.
        layer: String,
        /// The format or width asked for.
        what: String,
        /// Those there are.
        instead: String,
    },
}

/// Path and text of the description of a name.
macro_rules! built_in {
    ($name:literal) => {
        (concat!("targets/boards/", $name, ".toml"), include_str!(concat!("../../targets/boards/", $name, ".toml")))
    };
}

/// Descriptions that come with the program.
const BUILT_IN: [(&str, &str); 17] = [
    built_in!("host"),
    built_in!("cortex-m0plus"),
    built_in!("cortex-m3"),
    built_in!("cortex-m4"),
    built_in!("cortex-m7"),
    built_in!("cortex-m33"),
    built_in!("cortex-m55"),
    built_in!("rv32imac"),
    built_in!("nucleo-l4r5zi"),
    built_in!("nucleo-h743zi"),
    built_in!("rp2040"),
    built_in!("nrf52840"),
    built_in!("esp32-c3"),
    built_in!("corstone-300"),
    built_in!("bismo-edge"),
    built_in!("bismo-cloud"),
    built_in!("bit-fusion"),
];

impl Target {
    /// Whether what inference takes there is counted, the same in every run, rather than timed.
    pub fn counts(&self) -> bool {
        self.unit != TickUnit::Nanoseconds
    }

    /// Whether its times are those of a model, and nothing is measured.
    pub fn is_modelled(&self) -> bool {
        matches!(self.runner, Runner::Model(_))
    }

    /// Every target that comes with the program.
    ///
    /// # Errors
    /// When a built-in description is broken; a test rules that out.
    pub fn built_in() -> Result<Vec<Target>, TargetError> {
        BUILT_IN.iter().map(|(path, text)| parse(path, text)).collect()
    }

    /// A target by name, or by the path of its description; behind `qemu:` one that an emulator runs.
    ///
    /// # Errors
    /// When neither exists, or the file is no description.
    pub fn find(name: &str) -> Result<Target, TargetError> {
        if let Some(name) = name.strip_prefix("qemu:") {
            let target = Self::find(name)?;
            return match target.runner {
                Runner::Qemu(_) | Runner::SameAs(_) => Ok(target),
                Runner::Host | Runner::Chip(_) | Runner::Model(_) => Err(TargetError::NotEmulated(target.name)),
            };
        }
        let built_in = Self::built_in()?;
        if let Some(target) = built_in.iter().find(|t| t.name == name) {
            return Ok(target.clone());
        }
        if Path::new(name).extension().is_none_or(|e| e != "toml") {
            let known = built_in.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(TargetError::Unknown { name: name.to_owned(), known });
        }
        let text = std::fs::read_to_string(name).map_err(|source| TargetError::Io { path: name.to_owned(), source })?;
        parse(name, &text)
    }

    /// The same, but blobs run on a board at a serial port and are timed by its own counter.
    ///
    /// # Errors
    /// [`TargetError::NoSerial`] when the description says nothing of a port.
    pub fn on_port(self, port: &str) -> Result<Target, TargetError> {
        let Some(device) = self.device() else { return Err(TargetError::NoSerial(self.name)) };
        Ok(Target { unit: device.unit, port: Some(port.to_owned()), ..self })
    }

    /// The chip behind its serial port, where the description has one.
    pub fn device(&self) -> Option<Device> {
        let stand_in = self.stand_in();
        match (&stand_in.as_ref().unwrap_or(self).runner, &self.chip) {
            (Runner::Qemu(Qemu { core, .. }) | Runner::Chip(core), Some(chip)) => {
                let firmware = FIRMWARE_BYTES.min(chip.flash.bytes);
                let job = Region { origin: chip.flash.origin + firmware, bytes: chip.flash.bytes - firmware };
                let flash = Region { bytes: firmware, ..chip.flash };
                Some(Device {
                    core: core.clone(),
                    memory: Memory { flash, ram: chip.ram, job },
                    counter: Counter { kind: chip.counter, address: 0, hz: chip.clock_hz },
                    uart: chip.uart?,
                    setup: chip.setup.clone(),
                    unit: TickUnit::Cycles,
                    per_tick: 1.0,
                })
            }
            (Runner::Qemu(qemu), None) => Some(Device {
                core: qemu.core.clone(),
                memory: qemu.memory,
                counter: qemu.counter,
                uart: qemu.uart?,
                setup: Vec::new(),
                unit: TickUnit::Instructions,
                per_tick: qemu.instructions_a_tick(),
            }),
            _ => None,
        }
    }

    /// The chip that runs its blobs by itself, if one does.
    pub(crate) fn served(&self) -> Option<Device> {
        self.device().filter(|_| self.port.is_some() || matches!(self.runner, Runner::Chip(_)))
    }

    /// What runs its blobs.
    pub fn board(&self) -> Box<dyn Board> {
        match self.stand_in() {
            Some(stand_in) if self.port.is_none() => board::of(&stand_in, self.timings()),
            _ => board::of(self, self.timings()),
        }
    }

    /// The target that is measured: itself, or the one that it is the same as, to the cycle. Latency tables bear its
    /// name.
    pub fn measured(&self) -> String {
        let stand_in = self.stand_in().filter(|_| self.timings().is_none() && self.port.is_none());
        stand_in.map_or_else(|| self.name.clone(), |target| target.name)
    }

    /// What firmware for it is compiled for; `None` for this very machine.
    pub fn core(&self) -> Option<Core> {
        match self.stand_in().as_ref().unwrap_or(self).runner {
            Runner::Qemu(Qemu { ref core, .. }) | Runner::Chip(ref core) => Some(core.clone()),
            Runner::Host | Runner::SameAs(_) | Runner::Model(_) => None,
        }
    }

    /// Its flash and its RAM, where it has such.
    pub fn memory(&self) -> Option<[Region; 2]> {
        match (&self.chip, &self.runner) {
            (Some(chip), _) => Some([chip.flash, chip.ram]),
            (None, Runner::Qemu(qemu)) => Some([qemu.memory.flash, qemu.memory.ram]),
            _ => None,
        }
    }

    fn timings(&self) -> Option<Timings> {
        match self.chip.as_ref()?.cycles? {
            Cycles::Traced(timings) if self.port.is_none() => Some(timings),
            _ => None,
        }
    }

    fn stand_in(&self) -> Option<Target> {
        let Runner::SameAs(name) = &self.runner else { return None };
        let own_runner = |target: &Target| target.name == *name && !matches!(target.runner, Runner::SameAs(_));
        BUILT_IN.iter().filter_map(|(_, text)| toml::from_str(text).ok()).find(own_runner)
    }

    /// A bound on latency in what the target counts. Seconds become cycles by the chip's clock, and instructions by an
    /// average besides, which is an estimate; other units stay as they are.
    pub fn counted(&self, bound: Ticks) -> Ticks {
        match (bound.unit, &self.chip) {
            (TickUnit::Nanoseconds, Some(chip)) => {
                Ticks { value: bound.value / chip.nanoseconds(self.unit), unit: self.unit }
            }
            _ => bound,
        }
    }

    /// Time on the chip, estimated from what was counted, and a sentence that says how; `None` where no estimate is
    /// needed or possible.
    pub fn estimate(&self, counted: Ticks) -> Option<(Ticks, String)> {
        if let Runner::Model(accelerator) = &self.runner {
            return Some((counted, format!("a model by roofline, nothing was measured: {}", accelerator.source)));
        }
        let chip = self.chip.as_ref().filter(|_| counted.unit == self.unit)?;
        let ns = counted.value * chip.nanoseconds(counted.unit);
        let mhz = f64::from(chip.clock_hz) / 1e6;
        let how = match chip.cycles {
            _ if self.served().is_some() => format!("counted by the chip, at {mhz} MHz"),
            Some(Cycles::Average(cycles)) => {
                format!("an estimate: {cycles} cycles an instruction on average, at {mhz} MHz")
            }
            Some(Cycles::Traced(timings)) => format!("an estimate: {}, at {mhz} MHz", timings.describe()),
            None => return None,
        };
        Some((Ticks { value: ns, unit: TickUnit::Nanoseconds }, how))
    }

    /// Whether the chip holds a network.
    ///
    /// # Errors
    /// [`TargetError::TooLarge`] naming the memory that does not.
    pub fn check_memory(&self, flash: Bytes, ram: Bytes) -> Result<(), TargetError> {
        let Some(chip) = &self.chip else { return Ok(()) };
        let memories = [("flash", flash, chip.flash, "--max-flash"), ("RAM", ram, chip.ram, "--max-ram")];
        match memories.into_iter().find(|&(_, need, have, _)| need.0 > have.bytes.into()) {
            None => Ok(()),
            Some((what, need, have, flag)) => {
                let (target, have) = (self.name.clone(), Bytes(have.bytes.into()));
                Err(TargetError::TooLarge { target, what, need, have, flag })
            }
        }
    }

    /// Whether it has kernels for everything in a policy.
    ///
    /// # Errors
    /// [`TargetError::NoKernels`] naming the first layer that asks for others.
    pub fn check(&self, policy: &Policy) -> Result<(), TargetError> {
        let refuse = |layer: &str, what: String, instead: String| {
            Err(TargetError::NoKernels { target: self.name.clone(), layer: layer.to_owned(), what, instead })
        };
        for (layer, entry) in &policy.layers {
            let formats = match &entry.weights {
                None => &[][..],
                Some(WeightChoice::Layer(format)) => std::slice::from_ref(format),
                Some(WeightChoice::Channels(formats)) => formats,
            };
            if let Some(format) = formats.iter().find(|format| !self.weight_formats.contains(format)) {
                return refuse(layer, format!("{format} weights"), joined(&self.weight_formats));
            }
            if !self.activation_bits.contains(&entry.activation_bits) {
                let what = format!("{}-bit activations", entry.activation_bits);
                return refuse(layer, what, joined(&self.activation_bits));
            }
        }
        Ok(())
    }
}

fn joined<T: std::fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn parse(path: &str, text: &str) -> Result<Target, TargetError> {
    let schema = |line, reason: &str| TargetError::Schema { path: path.to_owned(), line, reason: reason.to_owned() };
    let target: Target = toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        schema(line, &format!("{}; `targets/boards` has descriptions to compare with", e.message().replace('\n', " ")))
    })?;
    // The line that a key or a table begins with.
    let refuse = |key: &str, reason: &str| {
        let line = text.lines().position(|line| line.trim_start().trim_start_matches('[').starts_with(key));
        Err(schema(line.map_or(1, |index| index + 1), reason))
    };
    if target.weight_formats.is_empty() {
        return refuse("weight_formats", "it needs at least one weight format");
    }
    if target.activation_bits.is_empty() {
        return refuse("activation_bits", "it needs at least one activation width");
    }
    if target.channel_block == 0 {
        return refuse("channel_block", "`channel_block` is 1 at least");
    }
    if !target.activation_bits.iter().all(|bits| (1..=8).contains(bits)) {
        return refuse("activation_bits", "activation widths go from 1 to 8 bits");
    }
    let searched = &target.searched_activation_bits;
    if searched.is_empty() || !searched.iter().all(|bits| target.activation_bits.contains(bits)) {
        return refuse(
            "searched_activation_bits",
            "`searched_activation_bits` are some of `activation_bits`, one at least",
        );
    }
    if let (Runner::SameAs(name), None) = (&target.runner, target.stand_in()) {
        return Err(TargetError::NotTheSame { path: path.to_owned(), name: name.clone() });
    }
    match (&target.chip, &target.runner) {
        (Some(chip), _) if chip.clock_hz == 0 => return refuse("clock_hz", "`clock_hz` is above 0"),
        (Some(Chip { cycles: Some(Cycles::Average(average)), .. }), _) if !(*average > 0.0 && average.is_finite()) => {
            return refuse("cycles.average", "the average of cycles is above 0");
        }
        (Some(Chip { cycles: None, .. }), Runner::SameAs(_) | Runner::Qemu(_)) => {
            return refuse(
                "chip",
                "`chip` needs `cycles`: an average an instruction, or the timings of core and flash",
            );
        }
        (Some(Chip { flash: memory, .. }), _) if !memory.is_within_addresses() => {
            return refuse("flash", "`flash` begins at `origin`, has `bytes` above 0, and ends within 32 bits");
        }
        (Some(Chip { ram: memory, .. }), _) if !memory.is_within_addresses() => {
            return refuse("ram", "`ram` begins at `origin`, has `bytes` above 0, and ends within 32 bits");
        }
        (chip, Runner::Chip(_)) if chip.as_ref().is_none_or(|chip| chip.uart.is_none()) => {
            return refuse("runner", "what runs on the chip alone needs `[chip]` with its serial port, `uart`");
        }
        (Some(Chip { uart: Some(uart), .. }), _) if uart.baud == 0 => {
            return refuse("uart", "`baud` is above 0");
        }
        _ => {}
    }
    if let Some(core) = target.core()
        && core.kernels.is_empty()
    {
        return refuse("kernels", "`kernels` names at least one family");
    }
    if let (Some(_), false) = (target.timings(), matches!(target.runner, Runner::SameAs(_) | Runner::Qemu(_))) {
        return refuse(
            "cycles.traced",
            "cycles are traced in an emulator: it needs a runner that is one, or an average",
        );
    }
    let unit = target.board().unit();
    if target.unit != unit {
        return refuse("unit", &format!("what runs it counts in `{unit}`, not in `{}`", target.unit));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::LayerPolicy;

    #[test]
    fn built_in_targets_are_valid() {
        assert!(Target::built_in().unwrap().iter().any(|t| t.name == "host"));
    }

    #[test]
    fn an_unknown_field_is_named() {
        for (_, text) in BUILT_IN {
            let text = text.to_owned() + "clock_mhz = 80\n";
            assert!(parse("x.toml", &text).unwrap_err().to_string().contains("clock_mhz"));
        }
    }

    #[test]
    fn an_emulator_may_be_asked_for_by_name() {
        assert_eq!(Target::find("qemu:cortex-m4").unwrap(), Target::find("cortex-m4").unwrap());
        assert!(Target::find("qemu:host").unwrap_err().to_string().contains("without `qemu:`"));
    }

    #[test]
    fn seconds_on_a_chip_are_an_estimate_that_says_so() {
        let told = |target: &Target| {
            let bound = target.counted("10ms".parse().unwrap());
            let (time, how) = target.estimate(bound).unwrap();
            assert!((time.value - 1e7).abs() < 1e-3 && how.contains("estimate") && how.contains(" MHz"), "{how}");
            bound
        };
        let (traced, averaged) = (Target::find("nucleo-l4r5zi").unwrap(), Target::find("rp2040").unwrap());
        assert_eq!(told(&traced), Ticks { value: 1.2e6, unit: TickUnit::Cycles });
        assert!(told(&averaged).value < 1.33e6 && told(&averaged).unit == TickUnit::Instructions);
        let core = Target::find("cortex-m4").unwrap();
        assert_eq!(core.counted("10ms".parse().unwrap()).unit, TickUnit::Nanoseconds, "no clock is known");
        // Where instructions are counted, a chip is its core; cycles are its own.
        assert_eq!(averaged.measured(), "cortex-m0plus");
        assert_eq!(traced.measured(), traced.name);
        assert!(traced.board().processor().starts_with(&core.board().processor()));
    }

    #[test]
    fn a_network_larger_than_the_chip_is_refused_with_the_remedy() {
        let target = Target::find("rp2040").unwrap();
        let kib = |n: u64| Bytes(n << 10);
        assert!(target.check_memory(kib(100), kib(100)).is_ok());
        let refused = target.check_memory(kib(100), kib(1 << 10)).unwrap_err().to_string();
        assert!(refused.contains("--max-ram") && refused.contains("rp2040"), "{refused}");
        assert!(target.check_memory(kib(64 << 10), kib(1)).unwrap_err().to_string().contains("--max-flash"));
    }

    #[test]
    fn a_description_is_the_same_as_one_that_runs() {
        let text = |name: &str| {
            let own = BUILT_IN.iter().find(|(path, _)| path.contains("nrf52840")).unwrap().1;
            own.replace("same-as = \"cortex-m4\"", &format!("same-as = \"{name}\""))
        };
        assert!(parse("x.toml", &text("cortex-m7")).is_ok());
        for name in ["nrf52840", "absent"] {
            assert!(parse("x.toml", &text(name)).unwrap_err().to_string().contains(name));
        }
        assert!(parse("x.toml", &text("host")).unwrap_err().to_string().contains("counts in"));
    }

    #[test]
    fn what_a_runner_cannot_do_is_refused() {
        let with = |from: &str, to: &str| parse("x.toml", &BUILT_IN[0].1.replace(from, to)).unwrap_err().to_string();
        assert!(with("unit = \"ns\"", "unit = \"cycles\"").contains("ns"));
        assert!(with("[1, 2, 3, 4, 5, 6, 7, 8]", "[]").contains("activation"));
        assert!(with("[1, 2, 3, 4, 5, 6, 7, 8]", "[9]").contains("1 to 8"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let board = BUILT_IN.iter().find(|(path, _)| path.contains("nucleo-l4r5zi")).unwrap().1;
        let with = |from: &str, to: &str| {
            let text = board.replacen(from, to, 1);
            let line = text.lines().position(|line| line.contains(to)).unwrap() + 1;
            let error = parse("x.toml", &text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x.toml, line {line}: ")), "{error}, not line {line}");
            error
        };
        assert!(with("counter = \"dwt\"", "counter = \"clock\"").contains("dwt"));
        assert!(with("clock_hz = 120_000_000", "clock_hz = 0").contains("above 0"));
        assert!(with("bytes = 0x000a_0000", "bytes = 0xf00a_0000").contains("ends within 32 bits"));
        assert!(with("baud = 115_200", "baud_rate = 9600").contains("baud_rate"));
        assert!(with("unit = \"cycles\"", "unit = \"instructions\"").contains("cycles"));
    }

    #[test]
    fn a_chip_at_a_port_counts_its_own_cycles() {
        let chip = Target::find("nrf52840").unwrap();
        let device = chip.device().unwrap();
        assert_eq!((device.unit, device.per_tick, device.counter.kind), (TickUnit::Cycles, 1.0, CounterKind::Dwt));
        let Memory { flash, job, .. } = device.memory;
        assert_eq!((flash.origin + flash.bytes, flash.bytes + job.bytes), (job.origin, 1 << 20));
        let traced = chip.board().processor();
        let wired = chip.on_port("/dev/ttyACM0").unwrap();
        assert_ne!(wired.board().processor(), traced, "their tables must not mix");
        assert_eq!(wired.measured(), "nrf52840");
        let (time, how) = wired.estimate(Ticks { value: 64e3, unit: TickUnit::Cycles }).unwrap();
        assert!((time.value - 1e6).abs() < 1e-6 && how.contains("counted by the chip"), "{how}");
        // The same core under emulation counts instructions, at a port too.
        assert_eq!(Target::find("rv32imac").unwrap().on_port("x").unwrap().unit, TickUnit::Instructions);
        let error = Target::find("rp2040").unwrap().on_port("x").unwrap_err().to_string();
        assert!(error.contains("rp2040") && error.contains("Add a board"), "{error}");
    }

    #[test]
    fn a_chip_may_have_a_core_that_no_emulator_has() {
        let board = BUILT_IN.iter().find(|(path, _)| path.contains("nrf52840")).unwrap().1;
        let own = "[runner.chip]\nrust_target = \"thumbv7em-none-eabihf\"\ncpu = \"cortex-m4\"\nkernels = [\"dsp\"]";
        let alone = board.replace("[runner]\nsame-as = \"cortex-m4\"", own);
        let alone: String =
            alone.lines().filter(|line| !line.starts_with("cycles.")).map(|l| format!("{l}\n")).collect();
        let target = parse("x.toml", &alone).unwrap();
        assert!(target.board().processor().contains("at a serial port"));
        let without = alone.split("[chip.uart]").next().unwrap();
        assert!(parse("x.toml", without).unwrap_err().to_string().contains("`uart`"));
    }

    #[test]
    fn a_policy_without_kernels_is_refused_by_layer() {
        let host = Target::built_in().unwrap().remove(0);
        let target = Target { weight_formats: vec![WeightFormat::Linear(8)], activation_bits: vec![8], ..host };
        let policy = |format, activation_bits| {
            let weights = Some(WeightChoice::Channels(vec![WeightFormat::Linear(8), format]));
            Policy { layers: [("conv1".to_owned(), LayerPolicy { weights, activation_bits, keep: None })].into() }
        };
        assert!(target.check(&policy(WeightFormat::Linear(8), 8)).is_ok());
        let refused = |policy: &Policy| target.check(policy).unwrap_err().to_string();
        let narrow = refused(&policy(WeightFormat::Linear(3), 8));
        assert!(narrow.contains("conv1") && narrow.contains("w3") && narrow.ends_with("w8"), "{narrow}");
        assert!(refused(&policy(WeightFormat::Linear(8), 1)).contains("1-bit activations"));
    }
}
