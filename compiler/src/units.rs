//! Numbers with their units: sizes, ticks, energies and counts, as the command line writes them.
//!
//! A tick is whatever a target's clock counts: nanoseconds on the host, instructions in the
//! emulator, cycles on a board. They never compare, add or convert into each other: an instruction
//! is not a cycle and a cycle is not a second.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Reads `98304`, `96KiB`, `1MiB`, `64kB`; prints `96 KiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// What a target's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TickUnit {
    /// Time on a wall clock.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Instructions executed, as an emulator counts them.
    #[serde(rename = "instructions")]
    Instructions,
    /// Cycles of the target's core.
    #[serde(rename = "cycles")]
    Cycles,
}

/// A duration on a target's clock. Reads `5ms`, `120us`, `120000instructions`, `3M cycles`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticks {
    /// How many.
    pub value: f64,
    /// Of what.
    pub unit: TickUnit,
}

/// Energy in joules. Reads `1mJ`, `120uJ`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Joules(pub f64);

/// A number of operations. Reads `6M`, `400000`, `1.5G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Count(pub u64);

/// The unit of a [`Quantity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// See [`Bytes`].
    Bytes,
    /// See [`Ticks`].
    Ticks(TickUnit),
    /// See [`Joules`].
    Joules,
    /// See [`Count`].
    Operations,
}

/// Any amount that a budget can bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Flash or RAM.
    Bytes(Bytes),
    /// Latency.
    Ticks(Ticks),
    /// Energy.
    Joules(Joules),
    /// Multiply-accumulates or bit operations.
    Operations(Count),
}

/// A text that is no quantity of the kind wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: write {accepted}")]
pub struct ParseQuantityError {
    text: String,
    what: &'static str,
    accepted: &'static str,
}

/// Two amounts that no arithmetic joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} and {right} do not compare: state the amount in {left}")]
pub struct UnitMismatch {
    /// Unit of the first amount.
    pub left: Unit,
    /// Unit of the second amount.
    pub right: Unit,
}

impl Ticks {
    /// The sum.
    ///
    /// # Errors
    /// [`UnitMismatch`] where the units differ.
    pub fn checked_add(self, other: Ticks) -> Result<Ticks, UnitMismatch> {
        self.same_unit(other)?;
        Ok(Ticks { value: self.value + other.value, unit: self.unit })
    }

    /// Which is longer.
    ///
    /// # Errors
    /// [`UnitMismatch`] where the units differ.
    pub fn compare(self, other: Ticks) -> Result<Ordering, UnitMismatch> {
        self.same_unit(other)?;
        Ok(self.value.total_cmp(&other.value))
    }

    fn same_unit(self, other: Ticks) -> Result<(), UnitMismatch> {
        if self.unit == other.unit {
            Ok(())
        } else {
            Err(UnitMismatch { left: Unit::Ticks(self.unit), right: Unit::Ticks(other.unit) })
        }
    }
}

impl Quantity {
    /// An amount of `unit`; whole units (bytes, operations) round up, so that a bound met by the
    /// result is met by `value`.
    pub fn new(value: f64, unit: Unit) -> Quantity {
        match unit {
            Unit::Bytes => Quantity::Bytes(Bytes(whole(value))),
            Unit::Ticks(unit) => Quantity::Ticks(Ticks { value, unit }),
            Unit::Joules => Quantity::Joules(Joules(value)),
            Unit::Operations => Quantity::Operations(Count(whole(value))),
        }
    }

    /// The bare number, in [`Quantity::unit`].
    pub fn value(self) -> f64 {
        match self {
            Quantity::Bytes(Bytes(n)) | Quantity::Operations(Count(n)) => n as f64,
            Quantity::Ticks(ticks) => ticks.value,
            Quantity::Joules(Joules(joules)) => joules,
        }
    }

    /// The unit of [`Quantity::value`].
    pub fn unit(self) -> Unit {
        match self {
            Quantity::Bytes(_) => Unit::Bytes,
            Quantity::Ticks(ticks) => Unit::Ticks(ticks.unit),
            Quantity::Joules(_) => Unit::Joules,
            Quantity::Operations(_) => Unit::Operations,
        }
    }

    /// Which is more.
    ///
    /// # Errors
    /// [`UnitMismatch`] where the units differ.
    pub fn compare(self, other: Quantity) -> Result<Ordering, UnitMismatch> {
        if self.unit() == other.unit() {
            Ok(self.value().total_cmp(&other.value()))
        } else {
            Err(UnitMismatch { left: self.unit(), right: other.unit() })
        }
    }
}

impl Quantity {
    /// A bound that holds this amount, as it may be typed: three digits, rounded up.
    pub fn as_bound(self) -> String {
        let up = |value: f64, units: &[(f64, &str)]| {
            let fits = units.iter().rev().find(|(factor, _)| value >= *factor).or(units.first());
            let (factor, suffix) = fits.copied().unwrap_or((1.0, ""));
            let scaled = value / factor;
            let step = 10f64.powf(scaled.max(1e-9).log10().floor() - 2.0);
            let digits = (-step.log10()).round().clamp(0.0, 12.0) as usize;
            let rounded = format!("{:.digits$}", (scaled / step - 1e-9).ceil().abs() * step);
            let short =
                if rounded.contains('.') { rounded.trim_end_matches('0').trim_end_matches('.') } else { &rounded };
            format!("{short}{suffix}")
        };
        const BYTES: [(f64, &str); 3] = [(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB")];
        const TIME: [(f64, &str); 4] = [(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")];
        const INSTRUCTIONS: [(f64, &str); 3] = [(1.0, "instructions"), (1e3, "Kinstructions"), (1e6, "Minstructions")];
        const CYCLES: [(f64, &str); 3] = [(1.0, "cycles"), (1e3, "Kcycles"), (1e6, "Mcycles")];
        const ENERGY: [(f64, &str); 4] = [(1e-9, "nJ"), (1e-6, "uJ"), (1e-3, "mJ"), (1.0, "J")];
        const COUNT: [(f64, &str); 4] = [(1.0, ""), (1e3, "K"), (1e6, "M"), (1e9, "G")];
        let units: &[(f64, &str)] = match self.unit() {
            Unit::Bytes => &BYTES,
            Unit::Ticks(TickUnit::Nanoseconds) => &TIME,
            Unit::Ticks(TickUnit::Instructions) => &INSTRUCTIONS,
            Unit::Ticks(TickUnit::Cycles) => &CYCLES,
            Unit::Joules => &ENERGY,
            Unit::Operations => &COUNT,
        };
        up(self.value(), units)
    }
}

fn whole(value: f64) -> u64 {
    // A sum of exact parts may land a rounding error above the integer it stands for.
    (value - 1e-6).ceil().max(0.0) as u64
}

impl FromStr for Bytes {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, f64); 8] = [
            ("", 1.0),
            ("B", 1.0),
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
        ];
        let error = ParseQuantityError {
            text: text.to_owned(),
            what: "size",
            accepted: "bytes as a plain number, or with B, KiB, MiB, GiB, kB, MB or GB, as in 96KiB",
        };
        scaled(text, &UNITS).filter(|n| fits_u64(*n)).map(|n| Bytes(n.floor() as u64)).ok_or(error)
    }
}

impl FromStr for Ticks {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use TickUnit::{Cycles, Instructions, Nanoseconds};
        const UNITS: [(&str, f64, TickUnit); 13] = [
            ("ns", 1.0, Nanoseconds),
            ("us", 1e3, Nanoseconds),
            ("µs", 1e3, Nanoseconds),
            ("ms", 1e6, Nanoseconds),
            ("s", 1e9, Nanoseconds),
            ("instructions", 1.0, Instructions),
            ("K instructions", 1e3, Instructions),
            ("M instructions", 1e6, Instructions),
            ("G instructions", 1e9, Instructions),
            ("cycles", 1.0, Cycles),
            ("K cycles", 1e3, Cycles),
            ("M cycles", 1e6, Cycles),
            ("G cycles", 1e9, Cycles),
        ];
        split(text)
            .and_then(|(number, suffix)| {
                let suffix = squeeze(suffix);
                let (_, factor, unit) = UNITS.iter().find(|(name, ..)| squeeze(name) == suffix)?;
                Some(Ticks { value: number * factor, unit: *unit })
            })
            .ok_or_else(|| ParseQuantityError {
                text: text.to_owned(),
                what: "latency",
                accepted: "a number with ns, us, ms or s, or with instructions or cycles (K, M or G before them), \
                           as in 5ms or 3M cycles",
            })
    }
}

impl FromStr for Joules {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, f64); 5] = [("nJ", 1e-9), ("uJ", 1e-6), ("µJ", 1e-6), ("mJ", 1e-3), ("J", 1.0)];
        scaled(text, &UNITS).map(Joules).ok_or_else(|| ParseQuantityError {
            text: text.to_owned(),
            what: "energy",
            accepted: "a number with nJ, uJ, mJ or J, as in 1mJ",
        })
    }
}

impl FromStr for Count {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, f64); 5] = [("", 1.0), ("K", 1e3), ("k", 1e3), ("M", 1e6), ("G", 1e9)];
        let error = ParseQuantityError {
            text: text.to_owned(),
            what: "count",
            accepted: "a plain number, or one with K, M or G, as in 6M",
        };
        scaled(text, &UNITS).filter(|n| fits_u64(*n)).map(|n| Count(n.floor() as u64)).ok_or(error)
    }
}

/// The number at the front, not negative and finite, and the rest without surrounding spaces.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some((number, suffix.trim()))
}

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, suffix) = split(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == suffix)?;
    Some(number * factor)
}

fn squeeze(suffix: &str) -> String {
    suffix.split_whitespace().collect()
}

fn fits_u64(n: f64) -> bool {
    n < u64::MAX as f64
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        match self.0 {
            0..=1023 => write!(f, "{} B", self.0),
            1024..=1_048_575 => write!(f, "{} KiB", Short(n / 1024.0)),
            _ => write!(f, "{} MiB", Short(n / 1_048_576.0)),
        }
    }
}

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            TickUnit::Nanoseconds => match self.value {
                v if v < 1e3 => write!(f, "{} ns", Short(v)),
                v if v < 1e6 => write!(f, "{} us", Short(v / 1e3)),
                v if v < 1e9 => write!(f, "{} ms", Short(v / 1e6)),
                v => write!(f, "{} s", Short(v / 1e9)),
            },
            unit => write!(f, "{} {unit}", Metric(self.value)),
        }
    }
}

impl fmt::Display for TickUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TickUnit::Nanoseconds => "ns",
            TickUnit::Instructions => "instructions",
            TickUnit::Cycles => "cycles",
        })
    }
}

impl fmt::Display for Joules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v < 1e-6 => write!(f, "{} nJ", Short(v * 1e9)),
            v if v < 1e-3 => write!(f, "{} uJ", Short(v * 1e6)),
            v if v < 1.0 => write!(f, "{} mJ", Short(v * 1e3)),
            v => write!(f, "{} J", Short(v)),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Metric(self.0 as f64).fmt(f)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Bytes => f.write_str("bytes"),
            Unit::Ticks(TickUnit::Nanoseconds) => f.write_str("time (ns, us, ms, s)"),
            Unit::Ticks(unit) => unit.fmt(f),
            Unit::Joules => f.write_str("joules"),
            Unit::Operations => f.write_str("operations"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantity::Bytes(bytes) => bytes.fmt(f),
            Quantity::Ticks(ticks) => ticks.fmt(f),
            Quantity::Joules(joules) => joules.fmt(f),
            Quantity::Operations(count) => count.fmt(f),
        }
    }
}

/// Three or four significant digits, no trailing zeros.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 < 10.0 {
            2
        } else if self.0 < 100.0 {
            1
        } else {
            0
        };
        let text = format!("{:.digits$}", self.0);
        if text.contains('.') {
            f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
        } else {
            f.write_str(&text)
        }
    }
}

/// [`Short`] with K, M or G.
struct Metric(f64);

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v < 1e3 => write!(f, "{}", Short(v)),
            v if v < 1e6 => write!(f, "{}K", Short(v / 1e3)),
            v if v < 1e9 => write!(f, "{}M", Short(v / 1e6)),
            v => write!(f, "{}G", Short(v / 1e9)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_command_line_promises() {
        assert_eq!("96KiB".parse(), Ok(Bytes(98_304)));
        assert_eq!("1MiB".parse(), Ok(Bytes(1_048_576)));
        assert_eq!("98_304".parse(), Ok(Bytes(98_304)));
        assert_eq!("5ms".parse(), Ok(Ticks { value: 5e6, unit: TickUnit::Nanoseconds }));
        assert_eq!("120us".parse(), Ok(Ticks { value: 120e3, unit: TickUnit::Nanoseconds }));
        assert_eq!("120000instructions".parse(), Ok(Ticks { value: 120e3, unit: TickUnit::Instructions }));
        assert_eq!("3M cycles".parse(), Ok(Ticks { value: 3e6, unit: TickUnit::Cycles }));
        assert_eq!("3Mcycles".parse(), Ok(Ticks { value: 3e6, unit: TickUnit::Cycles }));
        assert_eq!("6M".parse(), Ok(Count(6_000_000)));
        assert_eq!("1mJ".parse(), Ok(Joules(1e-3)));
    }

    #[test]
    fn refuses_other_texts_and_says_what_is_accepted() {
        for text in ["", "KiB", "-3KiB", "96 kib", "nan", "inf", "1e3x", "99999999999999999999"] {
            let error = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.contains("KiB"), "{error}");
        }
        for text in ["5", "5 minutes", "ms", "3M"] {
            assert!(text.parse::<Ticks>().unwrap_err().to_string().contains("cycles"));
        }
        assert!("6MB".parse::<Count>().is_err());
        assert!("1mW".parse::<Joules>().is_err());
    }

    #[test]
    fn tick_units_never_mix() {
        let time: Ticks = "5ms".parse().unwrap();
        let instructions: Ticks = "5M instructions".parse().unwrap();
        assert!(time.checked_add(instructions).is_err());
        assert!(time.compare(instructions).is_err());
        let error = Quantity::Ticks(instructions).compare(Quantity::Ticks(time)).unwrap_err();
        assert!(error.to_string().contains("instructions"), "{error}");
        assert_eq!(time.compare("4ms".parse().unwrap()), Ok(Ordering::Greater));
    }

    #[test]
    fn a_suggested_bound_reads_back_as_enough() {
        for n in [0u64, 1, 9, 100, 1023, 1024, 2376, 14_541, 98_304, 98_305, 1_048_577, 77_777_777] {
            let text = Quantity::Bytes(Bytes(n)).as_bound();
            let back: Bytes = text.parse().unwrap();
            assert!(back.0 >= n && back.0 as f64 <= n as f64 * 1.011 + 1.0, "{n} became {text}");
            let text = Quantity::Operations(Count(n)).as_bound();
            assert!(text.parse::<Count>().unwrap().0 >= n, "{n} became {text}");
            for unit in [TickUnit::Nanoseconds, TickUnit::Instructions, TickUnit::Cycles] {
                let ticks = Ticks { value: n as f64 * 1.37, unit };
                let text = Quantity::Ticks(ticks).as_bound();
                let back: Ticks = text.parse().unwrap();
                assert_eq!(back.unit, unit);
                assert!(back.value >= ticks.value, "{ticks:?} became {text}");
            }
        }
        assert_eq!(Quantity::Bytes(Bytes(2376)).as_bound(), "2.33KiB");
        assert_eq!(Quantity::Bytes(Bytes(98_304)).as_bound(), "96KiB");
    }

    #[test]
    fn prints_for_people() {
        assert_eq!(Bytes(14_541).to_string(), "14.2 KiB");
        assert_eq!(Bytes(98_304).to_string(), "96 KiB");
        assert_eq!(Ticks { value: 120e3, unit: TickUnit::Nanoseconds }.to_string(), "120 us");
        assert_eq!(Ticks { value: 3e6, unit: TickUnit::Cycles }.to_string(), "3M cycles");
        assert_eq!(Count(12_501_632).to_string(), "12.5M");
    }
}
