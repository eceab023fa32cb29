//! Flash that is slower than the core, behind small caches: a line of code or data that is in its cache costs nothing,
//! any other keeps the core waiting.

use std::ops::Range;

/// What a chip's flash is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlashSpec {
    /// Addresses of flash.
    pub ranges: Vec<Range<u32>>,
    /// Bytes that are read at once; a power of two.
    pub line_bytes: u32,
    /// Cycles that the core waits for a line.
    pub fill_cycles: u32,
    /// Lines that the cache of code holds.
    pub code_lines: usize,
    /// Lines that the cache of data holds.
    pub data_lines: usize,
    /// Whether the next line of code is fetched while one is executed.
    pub prefetch: bool,
}

/// Flash and its caches.
#[derive(Debug)]
pub struct Flash {
    spec: FlashSpec,
    code: Cache,
    data: Cache,
    /// The line of code that was fetched last, and when it was there.
    fetched: (u32, u64),
}

impl Flash {
    /// Caches empty.
    pub fn new(spec: FlashSpec) -> Flash {
        let (code, data) = (Cache::new(spec.code_lines), Cache::new(spec.data_lines));
        Flash { spec, code, data, fetched: (u32::MAX, 0) }
    }

    /// Cycles that fetching an instruction waits, the clock standing at `now`.
    pub fn fetch(&mut self, address: u32, now: u64) -> u32 {
        if !self.holds(address) {
            return 0;
        }
        let line = address / self.spec.line_bytes;
        let (last, since) = self.fetched;
        if line == last {
            return 0;
        }
        let waited = match self.code.take(line) {
            true => 0,
            false if self.spec.prefetch && line == last.wrapping_add(1) => {
                self.spec.fill_cycles.saturating_sub((now - since).min(u64::from(u32::MAX)) as u32)
            }
            false => self.spec.fill_cycles,
        };
        self.fetched = (line, now + u64::from(waited));
        waited
    }

    /// Cycles that reading data waits.
    pub fn read(&mut self, address: u32) -> u32 {
        match self.holds(address) && !self.data.take(address / self.spec.line_bytes) {
            true => self.spec.fill_cycles,
            false => 0,
        }
    }

    fn holds(&self, address: u32) -> bool {
        self.spec.ranges.iter().any(|range| range.contains(&address))
    }
}

/// Lines of which the one that was used longest ago makes room.
#[derive(Debug)]
struct Cache {
    /// Newest last.
    lines: Vec<u32>,
    most: usize,
}

impl Cache {
    fn new(most: usize) -> Cache {
        Cache { lines: Vec::with_capacity(most), most }
    }

    /// Whether a line is there; it is afterwards, unless there is no room for any.
    fn take(&mut self, line: u32) -> bool {
        let found = self.lines.iter().rposition(|&held| held == line);
        match found {
            Some(at) => self.lines[at..].rotate_left(1),
            None if self.most == 0 => {}
            None => {
                if self.lines.len() == self.most {
                    self.lines.remove(0);
                }
                self.lines.push(line);
            }
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flash(prefetch: bool) -> Flash {
        let spec = FlashSpec {
            ranges: vec![0..0x1000],
            line_bytes: 8,
            fill_cycles: 5,
            code_lines: 2,
            data_lines: 1,
            prefetch,
        };
        Flash::new(spec)
    }

    #[test]
    fn a_line_waits_once_while_it_is_held() {
        let mut flash = flash(false);
        assert_eq!([0, 2, 4, 8, 0, 16, 8, 0].map(|address| flash.fetch(address, 0)), [5, 0, 0, 5, 0, 5, 5, 5]);
        assert_eq!([0, 4, 8, 0].map(|address| flash.read(address)), [5, 0, 5, 5]);
    }

    #[test]
    fn what_is_prefetched_waits_for_the_rest_of_its_time() {
        let mut flash = flash(true);
        assert_eq!(flash.fetch(0, 0), 5);
        assert_eq!(flash.fetch(8, 8), 2);
        assert_eq!(flash.fetch(16, 30), 0);
        assert_eq!(flash.fetch(64, 30), 5);
    }

    #[test]
    fn other_memory_never_waits() {
        assert_eq!(flash(false).fetch(0x2000_0000, 0) + flash(false).read(0x2000_0000), 0);
    }
}
