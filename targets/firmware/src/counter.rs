//! Reading time: one counter, chosen by the job.

use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::job::CounterKind;

/// A counter that runs.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    kind: CounterKind,
    address: u32,
    /// Ticks between two readings with nothing in between.
    overhead: u64,
}

impl Counter {
    /// Starts a counter; `address` is where its registers are, for one that is not part of the core.
    pub fn start(kind: CounterKind, address: u32) -> Counter {
        let address = match kind {
            CounterKind::Dwt => DWT,
            CounterKind::SysTick => SYST,
            _ => address,
        };
        let mut counter = Counter { kind, address, overhead: 0 };
        match counter.kind {
            CounterKind::CmsdkTimer => {
                counter.write(CMSDK_CTRL, 0);
                counter.write(CMSDK_RELOAD, u32::MAX);
                counter.write(CMSDK_VALUE, u32::MAX);
                counter.write(CMSDK_CTRL, 1);
            }
            CounterKind::SysTick => {
                counter.write(SYST_RVR, 0x00ff_ffff);
                counter.write(SYST_CVR, 0);
                // Enabled, an interrupt at every 0, the processor's clock.
                counter.write(SYST_CSR, 0b111);
            }
            CounterKind::Dwt => {
                let demcr = Counter { address: DEMCR, ..counter };
                demcr.write(0, demcr.read(0) | DEMCR_TRCENA);
                counter.write(DWT_CYCCNT, 0);
                counter.write(DWT_CTRL, counter.read(DWT_CTRL) | 1);
            }
            CounterKind::SseCounter => counter.write(SSE_CNTCR, 1),
            CounterKind::EspCycles => riscv::start_esp_cycles(),
            CounterKind::Minstret | CounterKind::Mcycle => {}
        }
        counter.overhead = counter.since(counter.now());
        counter
    }

    /// A reading, for [`Counter::since`]. An emulator that traces what is executed knows it by this name.
    #[unsafe(export_name = "pare_read_counter")]
    #[inline(never)]
    pub extern "C" fn now(&self) -> u64 {
        match self.kind {
            CounterKind::CmsdkTimer => u64::from(!self.read(CMSDK_VALUE)),
            // It counts down, and interrupts as it comes to 0.
            CounterKind::SysTick => loop {
                let rounds = ROUNDS.load(Ordering::Relaxed);
                let ticks = self.read(SYST_CVR).wrapping_neg() & 0x00ff_ffff;
                if ROUNDS.load(Ordering::Relaxed) == rounds {
                    break u64::from(rounds) << 24 | u64::from(ticks);
                }
            },
            CounterKind::Dwt => self.read(DWT_CYCCNT).into(),
            CounterKind::SseCounter => self.pair(|counter, high| counter.read(SSE_CNTCV + 4 * u32::from(high))),
            CounterKind::Minstret => self.pair(|_, high| riscv::minstret(high)),
            CounterKind::Mcycle => self.pair(|_, high| riscv::mcycle(high)),
            CounterKind::EspCycles => riscv::esp_cycles().into(),
        }
    }

    /// Ticks since a reading, without what reading takes.
    pub fn since(&self, begin: u64) -> u64 {
        let mask = match self.kind {
            CounterKind::CmsdkTimer | CounterKind::Dwt | CounterKind::EspCycles => u64::from(u32::MAX),
            CounterKind::SysTick | CounterKind::SseCounter | CounterKind::Minstret | CounterKind::Mcycle => u64::MAX,
        };
        (self.now().wrapping_sub(begin) & mask).saturating_sub(self.overhead)
    }

    /// A number of two words, the low one of which may overflow while they are read.
    fn pair(&self, word: impl Fn(&Counter, bool) -> u32) -> u64 {
        loop {
            let (high, low) = (word(self, true), word(self, false));
            if word(self, true) == high {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }

    fn read(&self, offset: u32) -> u32 {
        // SAFETY: a register of the counter that the board's description names; reading it changes nothing.
        unsafe { read_volatile((self.address + offset) as *const u32) }
    }

    fn write(&self, offset: u32, value: u32) {
        // SAFETY: a register of that counter, which nothing else uses.
        unsafe { write_volatile((self.address + offset) as *mut u32, value) }
    }
}

/// How often the system tick has come to 0.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// The interrupt of the system tick.
#[cfg(target_arch = "arm")]
#[unsafe(no_mangle)]
extern "C" fn tick() {
    // Nothing else writes it.
    ROUNDS.store(ROUNDS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

const CMSDK_CTRL: u32 = 0x0;
const CMSDK_VALUE: u32 = 0x4;
const CMSDK_RELOAD: u32 = 0x8;

const SYST: u32 = 0xe000_e010;
const SYST_CSR: u32 = 0x0;
const SYST_RVR: u32 = 0x4;
const SYST_CVR: u32 = 0x8;

const DWT: u32 = 0xe000_1000;
const DWT_CTRL: u32 = 0x0;
const DWT_CYCCNT: u32 = 0x4;
const DEMCR: u32 = 0xe000_edfc;
const DEMCR_TRCENA: u32 = 1 << 24;

const SSE_CNTCR: u32 = 0x0;
const SSE_CNTCV: u32 = 0x8;

mod riscv {
    /// A counter of the core, by name or number. 0 on other processors.
    macro_rules! counter {
        ($name:literal) => {{
            #[cfg(target_arch = "riscv32")]
            {
                let value: u32;
                // SAFETY: reads a counter, in machine mode.
                unsafe { core::arch::asm!(concat!("csrr {0}, ", $name), out(reg) value, options(nomem, nostack)) };
                value
            }
            #[cfg(not(target_arch = "riscv32"))]
            0
        }};
    }

    /// Instructions retired: the high or the low word.
    pub(super) fn minstret(high: bool) -> u32 {
        if high { counter!("minstreth") } else { counter!("minstret") }
    }

    /// Cycles: the high or the low word.
    pub(super) fn mcycle(high: bool) -> u32 {
        if high { counter!("mcycleh") } else { counter!("mcycle") }
    }

    /// Starts the counter of Espressif's cores, which have none of the standard ones.
    pub(super) fn start_esp_cycles() {
        #[cfg(target_arch = "riscv32")]
        // SAFETY: its registers for the event, cycles, and for the mode; nothing else uses them.
        unsafe {
            core::arch::asm!("csrwi 0x7e0, 1", "csrwi 0x7e1, 1", options(nomem, nostack));
        }
    }

    /// Cycles on those cores.
    pub(super) fn esp_cycles() -> u32 {
        counter!("0x7e2")
    }
}
