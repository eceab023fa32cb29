//! The host's end of a serial line to a board: a request goes out until its response comes back whole.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serialport::SerialPort;

use super::wire::{self, FRAME_BYTES, Request, Response, frame, unframe};

/// A line that is open.
pub(super) struct Line {
    port: Box<dyn SerialPort>,
    name: String,
    baud: u32,
    /// Joins a response to its request; never 0.
    number: u8,
    /// What came behind the last frame.
    unread: Vec<u8>,
    /// Whether the board has ever answered.
    alive: bool,
}

/// Why a board gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// There is no such port, or it is not ours.
    #[error("{port} cannot be opened: {source}; is it the board's port, and may you use it (on Linux: group dialout)?")]
    Open {
        /// The port.
        port: String,
        /// Why.
        source: serialport::Error,
    },
    /// It went away.
    #[error("{port} broke off: {source}; check the cable and the board's power, and start again")]
    Lost {
        /// The port.
        port: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing came, ever.
    #[error(
        "{port}: no answer to {tries} calls: is the board on, is this its port, and was it programmed with `serve` (`pare targets --build` says where that is)?"
    )]
    Silent {
        /// The port.
        port: String,
        /// Calls.
        tries: usize,
    },
    /// Nothing came any more.
    #[error("{port}: the board stopped answering after {} s: reset it, check the cable, and start again", .waited.as_secs())]
    Stopped {
        /// The port.
        port: String,
        /// Time since the last sign of life.
        waited: Duration,
    },
    /// What came was no answer.
    #[error(
        "{port}: {bytes} bytes came, but no answer: does the board speak at {baud} baud, as its description has it, and run Pare's firmware?"
    )]
    Noise {
        /// The port.
        port: String,
        /// Bytes that came.
        bytes: usize,
        /// Bits a second.
        baud: u32,
    },
    /// The board says no.
    #[error("{port}: the board says: {message}")]
    Refused {
        /// The port.
        port: String,
        /// Its words.
        message: String,
    },
    /// It speaks another language.
    #[error("{port}: the board's firmware is of another version of Pare: program it anew ({remedy})")]
    Protocol {
        /// The port.
        port: String,
        /// How.
        remedy: String,
    },
}

/// Calls before it is given up; a line that loses one byte in a thousand needs no more.
const TRIES: usize = 12;
/// How long a board takes to notice that it is asked, and its line to pass it on.
const LATENCY: Duration = Duration::from_millis(400);

impl Line {
    /// Opens a port.
    pub(super) fn open(port: &str, baud: u32) -> Result<Line, LineError> {
        let opened = serialport::new(port, baud).timeout(Duration::from_millis(50)).open();
        let opened = opened.map_err(|source| LineError::Open { port: port.to_owned(), source })?;
        Ok(Line { port: opened, name: port.to_owned(), baud, number: 0, unread: Vec::new(), alive: false })
    }

    /// The messages that answer a request which takes the board so long: any number of [`Response::Layer`], and the last
    /// of another kind.
    pub(super) fn ask(&mut self, request: &Request<'_>, takes: Duration) -> Result<Vec<Vec<u8>>, LineError> {
        let mut buffer = [0; FRAME_BYTES];
        // To and fro: a byte takes ten bits.
        let patience = takes + LATENCY + Duration::from_secs_f64(20.0 * FRAME_BYTES as f64 / f64::from(self.baud));
        let (begin, mut stray, mut tries) = (Instant::now(), 0, 0);
        // What is damaged is asked again at once; nobody waits for long more than twice.
        while tries < TRIES && (tries < 2 || takes < LATENCY || begin.elapsed() < 2 * patience) {
            tries += 1;
            self.number = self.number % u8::MAX + 1;
            let frame = frame(self.number, request, &mut buffer).unwrap_or_default();
            // The zero ends what a call that broke off may have begun.
            self.write(&[&[0], frame].concat())?;
            if let Some(answers) = self.answers(Instant::now() + patience, &mut stray)? {
                self.alive = true;
                return Ok(answers);
            }
        }
        let (port, waited) = (self.name.clone(), begin.elapsed());
        Err(match (self.alive, stray) {
            (true, _) => LineError::Stopped { port, waited },
            (false, 0) => LineError::Silent { port, tries },
            (false, bytes) => LineError::Noise { port, bytes, baud: self.baud },
        })
    }

    /// The answers to the last request; `None` when they did not all come whole and in time.
    fn answers(&mut self, deadline: Instant, stray: &mut usize) -> Result<Option<Vec<Vec<u8>>>, LineError> {
        let mut answers: Vec<Vec<u8>> = Vec::new();
        while let Some(mut frame) = self.next_frame(deadline, stray)? {
            let len = frame.len();
            let Some((number, message)) = unframe(&mut frame) else {
                *stray += len;
                continue;
            };
            let Some(response) = wire::message::<Response<'_>>(message) else {
                return Err(LineError::Protocol { port: self.name.clone(), remedy: "`pare targets --build`".into() });
            };
            let turns = answers.len();
            match response {
                Response::Refused(why) if number == self.number || number == 0 => {
                    return Err(LineError::Refused { port: self.name.clone(), message: why.to_owned() });
                }
                Response::Garbled => return Ok(None),
                _ if number != self.number => {}
                Response::Layer { .. } => answers.push(message.to_vec()),
                // A turn was lost.
                Response::Ran { turns: all, .. } if all as usize != turns => return Ok(None),
                _ => {
                    answers.push(message.to_vec());
                    return Ok(Some(answers));
                }
            }
        }
        Ok(None)
    }

    /// The bytes up to the next zero; `None` when none came in time.
    fn next_frame(&mut self, deadline: Instant, stray: &mut usize) -> Result<Option<Vec<u8>>, LineError> {
        let mut chunk = [0; 256];
        loop {
            while let Some(end) = self.unread.iter().position(|&byte| byte == 0) {
                let mut frame: Vec<u8> = self.unread.drain(..=end).collect();
                frame.pop();
                if !frame.is_empty() {
                    return Ok(Some(frame));
                }
            }
            // What is longer than any frame is none.
            if self.unread.len() > FRAME_BYTES {
                *stray += self.unread.len();
                self.unread.clear();
            }
            if Instant::now() >= deadline {
                *stray += self.unread.len();
                return Ok(None);
            }
            match self.port.read(&mut chunk) {
                Ok(0) => return Err(self.lost(ErrorKind::UnexpectedEof.into())),
                Ok(len) => self.unread.extend(&chunk[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LineError> {
        match self.port.write_all(bytes).and_then(|()| self.port.flush()) {
            // A line that takes no more is as good as one that gives no answer.
            Err(error) if error.kind() != ErrorKind::TimedOut => Err(self.lost(error)),
            _ => Ok(()),
        }
    }

    fn lost(&self, source: std::io::Error) -> LineError {
        LineError::Lost { port: self.name.clone(), source }
    }
}
