//! What the host reads: lines of words and numbers, the same over any wire.

use core::fmt::{Display, Write};

use crate::semihosting;

/// A line that grows word by word. Nothing of it is sure to be seen before [`Line::end`].
#[derive(Debug)]
pub struct Line {
    bytes: [u8; 64],
    len: usize,
}

impl Line {
    /// A line that begins with a word.
    pub fn new(word: &str) -> Line {
        let mut line = Line { bytes: [0; 64], len: 0 };
        line.text(word);
        line
    }

    /// Another word.
    pub fn word(&mut self, word: &str) -> &mut Line {
        self.byte(b' ').text(word)
    }

    /// A number.
    pub fn number(&mut self, mut number: u64) -> &mut Line {
        let mut digits = [0; 20];
        let mut first = digits.len();
        for digit in digits.iter_mut().rev() {
            first -= 1;
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.byte(b' ');
        digits.iter().skip(first).fold(self, |line, &digit| line.byte(digit))
    }

    /// Bytes, as hexadecimal digits.
    pub fn hex(&mut self, bytes: &[u8]) -> &mut Line {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        self.byte(b' ');
        bytes.iter().fold(self, |line, &byte| line.byte(digit(byte >> 4)).byte(digit(byte & 15)))
    }

    /// The end of the line.
    pub fn end(&mut self) {
        self.byte(b'\n').flush();
    }

    fn text(&mut self, text: &str) -> &mut Line {
        text.bytes().fold(self, Line::byte)
    }

    fn byte(&mut self, byte: u8) -> &mut Line {
        if self.len == self.bytes.len() {
            self.flush();
        }
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
        self
    }

    fn flush(&mut self) {
        semihosting::write(self.bytes.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// Says why and ends the program.
pub fn fail(why: &str) -> ! {
    Line::new("error").word(why).end();
    semihosting::exit(1)
}

/// Says why and ends the program.
pub(crate) fn fail_with(why: &dyn Display) -> ! {
    let mut line = Line::new("error ");
    // Writing to a line never fails.
    let _infallible = write!(line, "{why}");
    line.end();
    semihosting::exit(1)
}
