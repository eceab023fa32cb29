//! What a board's description says of its serial port.
//!
//! The compiler has this very file as a module: one definition for both sides.

#[cfg(not(target_os = "none"))]
use serde::{Deserialize, Serialize};

/// Which registers a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "none"), derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum UartKind {
    /// Arm's Cortex-M System Design Kit.
    Cmsdk,
    /// National Semiconductor's 16550, registers a byte each.
    #[cfg_attr(not(target_os = "none"), serde(rename = "16550"))]
    Ns16550,
    /// USART, UART and LPUART of the STM32 families F0, F3, F7, G, H, L, U and W.
    Stm32,
    /// The UART of Nordic's nRF51 and nRF52.
    Nrf,
}

/// A serial port: 8 bits, no parity, 1 stop bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "none"), derive(Serialize, Deserialize), serde(deny_unknown_fields))]
pub struct Uart {
    /// Which registers it has.
    pub kind: UartKind,
    /// Where they are.
    pub address: u32,
    /// Bits a second.
    pub baud: u32,
    /// What the register for the rate takes, for that rate.
    pub divisor: u32,
}

/// A register to change at the start: clocks, pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "none"), derive(Serialize, Deserialize), serde(deny_unknown_fields))]
pub struct Step {
    /// Where it is.
    pub address: u32,
    /// Bits to clear.
    #[cfg_attr(not(target_os = "none"), serde(default))]
    pub clear: u32,
    /// Bits to set afterwards.
    #[cfg_attr(not(target_os = "none"), serde(default))]
    pub set: u32,
    /// Bits to wait for then, until they are all set.
    #[cfg_attr(not(target_os = "none"), serde(default))]
    pub wait: u32,
}
