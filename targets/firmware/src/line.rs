//! The serial line to the host: frames in, frames out.

use core::fmt::{Display, Write};

use crate::board;
use crate::wire::{FRAME_BYTES, Request, Response, frame, message, unframe};

/// The line and the request that came last.
#[derive(Debug)]
pub struct Line {
    buffer: [u8; FRAME_BYTES],
    /// How much of it is the encoded request, and the request's number.
    len: usize,
    number: u8,
}

impl Line {
    /// Starts the port, after what it needs of the chip.
    pub fn open() -> Line {
        board::SETUP.iter().for_each(|step| step.take());
        board::UART.start();
        Line { buffer: [0; FRAME_BYTES], len: 0, number: 0 }
    }

    /// Waits for a request that came whole.
    pub fn receive(&mut self) {
        loop {
            let mut len = 0;
            loop {
                match board::UART.receive() {
                    0 if len > 0 => break,
                    0 => {}
                    byte => {
                        // What is too long is no frame, as its beginning is overwritten.
                        self.buffer[len % FRAME_BYTES] = byte;
                        len += 1;
                    }
                }
            }
            let whole = self.buffer.get_mut(..len).and_then(unframe);
            if let Some((number, message)) = whole {
                (self.number, self.len) = (number, message.len());
                // To the front of the buffer, where it is found again.
                let begin = message.as_ptr().addr() - self.buffer.as_ptr().addr();
                self.buffer.copy_within(begin..begin + self.len, 0);
                if self.request().is_some() {
                    return;
                }
                self.answer(&Response::Refused("the firmware does not know this request"));
            } else {
                self.number = 0;
                self.answer(&Response::Garbled);
            }
        }
    }

    /// The request that came last.
    pub fn request(&self) -> Option<Request<'_>> {
        message(self.buffer.get(..self.len)?)
    }

    /// Answers it.
    pub fn answer(&self, response: &Response<'_>) {
        send(self.number, response);
    }

    /// Answers that it cannot be done.
    pub fn refuse(&self, why: &dyn Display) {
        let mut text = Text { bytes: [0; 160], len: 0 };
        // A text that is too long is cut.
        let _cut = write!(text, "{why}");
        let text = text.bytes.get(..text.len).and_then(|bytes| core::str::from_utf8(bytes).ok());
        self.answer(&Response::Refused(text.unwrap_or("it is refused")));
    }
}

/// Says why to whoever listens, and stops.
pub fn fail(why: &str) -> ! {
    send(0, &Response::Refused(why));
    loop {
        core::hint::spin_loop();
    }
}

fn send(number: u8, response: &Response<'_>) {
    let mut buffer = [0; FRAME_BYTES];
    frame(number, response, &mut buffer).into_iter().flatten().for_each(|&byte| board::UART.send(byte));
}

/// Text of limited length.
struct Text {
    bytes: [u8; 160],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(core::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
