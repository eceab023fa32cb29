//! A serial port of the chip, byte by byte, without interrupts.

use core::ptr::{read_volatile, write_volatile};

use crate::chip::{Step, Uart, UartKind};

impl Step {
    /// Changes the register and waits.
    pub fn take(&self) {
        if self.clear | self.set != 0 {
            write(self.address, read(self.address) & !self.clear | self.set);
        }
        while read(self.address) & self.wait != self.wait {}
    }
}

impl Uart {
    /// Starts the port: 8 bits, no parity.
    pub fn start(&self) {
        let Uart { kind, address, divisor, .. } = *self;
        match kind {
            UartKind::Cmsdk => {
                write(address + CMSDK_BAUDDIV, divisor);
                write(address + CMSDK_CTRL, 0b11);
            }
            UartKind::Ns16550 => {
                write_byte(address + NS_LCR, NS_LCR_DIVISOR | NS_LCR_8_BITS);
                write_byte(address + NS_DATA, divisor as u8);
                write_byte(address + NS_IER, (divisor >> 8) as u8);
                write_byte(address + NS_LCR, NS_LCR_8_BITS);
                write_byte(address + NS_IER, 0);
                // Queues on, empty.
                write_byte(address + NS_FCR, 0b111);
            }
            UartKind::Stm32 => {
                write(address + STM32_BRR, divisor);
                // Enabled, sending and receiving.
                write(address + STM32_CR1, 0b1101);
            }
            UartKind::Nrf => {
                write(address + NRF_BAUDRATE, divisor);
                write(address + NRF_ENABLE, 4);
                write(address + NRF_STARTRX, 1);
                write(address + NRF_STARTTX, 1);
            }
        }
    }

    /// Waits for a byte.
    pub fn receive(&self) -> u8 {
        let address = self.address;
        match self.kind {
            UartKind::Cmsdk => {
                while read(address + CMSDK_STATE) & CMSDK_RX_FULL == 0 {}
                read(address) as u8
            }
            UartKind::Ns16550 => {
                while read_byte(address + NS_LSR) & NS_RX_READY == 0 {}
                read_byte(address + NS_DATA)
            }
            UartKind::Stm32 => {
                while read(address + STM32_ISR) & STM32_RX_READY == 0 {
                    // An overrun stops the port until it is acknowledged, as do noise and framing errors.
                    write(address + STM32_ICR, STM32_ERRORS);
                }
                read(address + STM32_RDR) as u8
            }
            UartKind::Nrf => {
                while read(address + NRF_RXDRDY) == 0 {}
                write(address + NRF_RXDRDY, 0);
                read(address + NRF_RXD) as u8
            }
        }
    }

    /// Sends a byte as soon as there is room.
    pub fn send(&self, byte: u8) {
        let address = self.address;
        match self.kind {
            UartKind::Cmsdk => {
                while read(address + CMSDK_STATE) & CMSDK_TX_FULL != 0 {}
                write(address, byte.into());
            }
            UartKind::Ns16550 => {
                while read_byte(address + NS_LSR) & NS_TX_EMPTY == 0 {}
                write_byte(address + NS_DATA, byte);
            }
            UartKind::Stm32 => {
                while read(address + STM32_ISR) & STM32_TX_EMPTY == 0 {}
                write(address + STM32_TDR, byte.into());
            }
            UartKind::Nrf => {
                write(address + NRF_TXDRDY, 0);
                write(address + NRF_TXD, byte.into());
                while read(address + NRF_TXDRDY) == 0 {}
            }
        }
    }
}

const CMSDK_STATE: u32 = 0x4;
const CMSDK_CTRL: u32 = 0x8;
const CMSDK_BAUDDIV: u32 = 0x10;
const CMSDK_TX_FULL: u32 = 1;
const CMSDK_RX_FULL: u32 = 1 << 1;

const NS_DATA: u32 = 0;
const NS_IER: u32 = 1;
const NS_FCR: u32 = 2;
const NS_LCR: u32 = 3;
const NS_LSR: u32 = 5;
const NS_LCR_DIVISOR: u8 = 1 << 7;
const NS_LCR_8_BITS: u8 = 0b11;
const NS_RX_READY: u8 = 1;
const NS_TX_EMPTY: u8 = 1 << 5;

const STM32_CR1: u32 = 0x0;
const STM32_BRR: u32 = 0xc;
const STM32_ISR: u32 = 0x1c;
const STM32_ICR: u32 = 0x20;
const STM32_RDR: u32 = 0x24;
const STM32_TDR: u32 = 0x28;
const STM32_ERRORS: u32 = 0b1111;
const STM32_RX_READY: u32 = 1 << 5;
const STM32_TX_EMPTY: u32 = 1 << 7;

const NRF_STARTRX: u32 = 0x0;
const NRF_STARTTX: u32 = 0x8;
const NRF_RXDRDY: u32 = 0x108;
const NRF_TXDRDY: u32 = 0x11c;
const NRF_ENABLE: u32 = 0x500;
const NRF_RXD: u32 = 0x518;
const NRF_TXD: u32 = 0x51c;
const NRF_BAUDRATE: u32 = 0x524;

fn read(address: u32) -> u32 {
    // SAFETY: a register that the board's description names, of the port or of what it needs.
    unsafe { read_volatile(address as *const u32) }
}

fn write(address: u32, value: u32) {
    // SAFETY: as above; nothing else uses it.
    unsafe { write_volatile(address as *mut u32, value) }
}

fn read_byte(address: u32) -> u8 {
    // SAFETY: as above.
    unsafe { read_volatile(address as *const u8) }
}

fn write_byte(address: u32, value: u8) {
    // SAFETY: as above.
    unsafe { write_volatile(address as *mut u8, value) }
}
