//! What a host and a board say to each other over a serial line: one request, one response, the host asking.
//!
//! A message is a number that joins a response to its request, a checksum, and the message itself in postcard's
//! encoding, together one COBS frame that ends with a zero byte. Whoever reads can therefore always find the start of
//! the next frame, and every request may be asked again: it does the same and is answered the same.
//!
//! The compiler has this very file as a module: one definition for both sides.

use serde::{Deserialize, Serialize};

/// Changes with every change of the messages.
pub const PROTOCOL: u16 = 1;
/// Bytes that travel in one message at most.
pub const DATA_BYTES: usize = 512;
/// Bytes of a message before it is framed, at most.
pub const MESSAGE_BYTES: usize = DATA_BYTES + 64;
/// Bytes of a frame, at most: number, checksum and length, and a byte of COBS for 254 others.
pub const FRAME_BYTES: usize = MESSAGE_BYTES + 16 + MESSAGE_BYTES / 254;
/// A network in RAM is followed by the arena at the next multiple of this.
pub const ALIGN: usize = 64;

/// What the host asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Who are you? Answered by [`Response::Board`].
    Hello,
    /// Where is the network of this length and [`checksum`]? Answered by [`Response::Found`].
    Find {
        /// Its length.
        bytes: u32,
        /// Its checksum.
        sum: u32,
    },
    /// Put this into RAM, where a network will be. Answered by [`Response::Done`].
    Write {
        /// Bytes of the network before these.
        offset: u32,
        /// Some of it.
        bytes: &'a [u8],
    },
    /// Start a session. Answered by [`Response::Opened`].
    Open {
        /// Where the network is.
        place: Place,
        /// Its length.
        bytes: u32,
        /// Place of the kernel family in `Isa::ALL`.
        isa: u8,
    },
    /// Remember these codes, which every run starts with. Answered by [`Response::Done`].
    Input {
        /// Codes before these, all inputs back to back.
        offset: u32,
        /// Some of them.
        bytes: &'a [u8],
    },
    /// Run once. Answered by [`Response::Ran`].
    Run,
    /// Run once and say what every layer took. Answered by many [`Response::Layer`], then [`Response::Ran`].
    Profile,
    /// Show output codes of the last run, all outputs back to back. Answered by [`Response::Output`].
    Output {
        /// Codes before these.
        offset: u32,
    },
}

/// What the board answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response<'a> {
    /// Who it is.
    Board(Board<'a>),
    /// Where a network is.
    Found(Option<Place>),
    /// It is done.
    Done,
    /// The session has started.
    Opened {
        /// Ticks of checking the network.
        parse: u64,
        /// Ticks of setting up.
        setup: u64,
    },
    /// A turn of a layer.
    Layer {
        /// Which.
        index: u16,
        /// Place of the family of its kernel in `Isa::ALL`.
        isa: u8,
        /// How long it took.
        ticks: u64,
    },
    /// The run is over.
    Ran {
        /// How long it took, where no layer was timed.
        ticks: u64,
        /// Turns that layers took, each answered before this.
        turns: u32,
        /// The most bytes of stack in use so far.
        stack: u32,
    },
    /// Output codes.
    Output(&'a [u8]),
    /// It cannot be done.
    Refused(&'a str),
    /// The frame was damaged on its way: ask again.
    Garbled,
}

/// What a board says of itself. Never changes but for the protocol's number: any host must understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board<'a> {
    /// Its [`PROTOCOL`].
    pub protocol: u16,
    /// The target that its firmware was built for.
    pub target: &'a str,
    /// Version and sources of its runtime.
    pub runtime: &'a str,
    /// Bytes of RAM for networks, inputs and arena.
    pub ram_bytes: u32,
    /// Where a network may be programmed into its flash.
    pub flash_address: u32,
    /// How many bytes it may have there.
    pub flash_bytes: u32,
}

/// Where a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Where [`Request::Write`] put it.
    Ram,
    /// In flash, where a programmer put it.
    Flash,
}

/// What is framed.
#[derive(Serialize, Deserialize)]
struct Numbered<'a> {
    number: u8,
    sum: u32,
    message: &'a [u8],
}

/// The frame of a message, its last byte 0; `None` when it is too long for `buffer`.
pub fn frame<'b, T: Serialize>(number: u8, message: &T, buffer: &'b mut [u8; FRAME_BYTES]) -> Option<&'b [u8]> {
    let mut body = [0; MESSAGE_BYTES];
    let message: &[u8] = postcard::to_slice(message, &mut body).ok()?;
    let numbered = Numbered { number, sum: checksum(&[&[number], message]), message };
    postcard::to_slice_cobs(&numbered, buffer).map(|frame| &*frame).ok()
}

/// The number and the encoded message of a frame, without its last byte; `None` when it was damaged.
pub fn unframe(frame: &mut [u8]) -> Option<(u8, &[u8])> {
    let Numbered { number, sum, message } = postcard::from_bytes_cobs(frame).ok()?;
    (sum == checksum(&[&[number], message])).then_some((number, message))
}

/// A message of what [`unframe`] gives; `None` when it is none that this side knows.
pub fn message<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// The CRC of IEEE 802.3 of bytes in pieces.
pub fn checksum(pieces: &[&[u8]]) -> u32 {
    let bytes = pieces.iter().copied().flatten();
    !bytes.fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}
