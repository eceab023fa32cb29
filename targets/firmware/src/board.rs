//! The board that this is built for, as its description has it: `TARGET`, `RUNTIME`, `COUNTER`, `COUNTER_ADDRESS`, `UART`
//! and `SETUP`.
#![allow(missing_docs, reason = "the description has them")]

use crate::chip::{Step, Uart, UartKind::*};
use crate::job::CounterKind::{self, *};

include!(env!("PARE_BOARD"));
