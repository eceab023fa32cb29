//! A reader for flatbuffers that may be hostile: every offset is checked against the buffer when it
//! is followed, nothing is allocated by a length that the buffer cannot hold, and nothing recurses.
//!
//! A flatbuffer is a tree of tables that refer to each other by relative offset. A table starts with
//! the offset back to its vtable, which says for each field where in the table it lies, or 0 where it
//! has its default. Offsets may well be shared, so a small file can describe a large tree: callers
//! walk a fixed number of levels and bound the number of tables ([`Table::tables`] takes a limit);
//! vectors of scalars are borrowed and decoded one element at a time.

/// Where the buffer breaks its own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Malformed {
    /// What is wrong there.
    pub what: &'static str,
    /// Offset in the file.
    pub at: usize,
}

type Result<T> = std::result::Result<T, Malformed>;

/// One table, its extent checked.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    vtable: &'a [u8],
}

/// A vector of scalars of `N` bytes each, in the file's little-endian form.
#[derive(Clone, Copy, Default)]
pub(super) struct Scalars<'a, const N: usize>(&'a [u8]);

impl<'a> Table<'a> {
    /// The root of a buffer.
    pub(super) fn root(bytes: &'a [u8]) -> Result<Table<'a>> {
        Table::at(bytes, follow(bytes, 0)?)
    }

    /// A table without a field: all defaults.
    pub(super) fn empty() -> Table<'a> {
        Table { bytes: &[], at: 0, vtable: &[] }
    }

    fn at(bytes: &'a [u8], at: usize) -> Result<Table<'a>> {
        let back = i32::from_le_bytes(array(bytes, at, "a table outside the file")?);
        let vtable = i64::try_from(at).ok().and_then(|at| usize::try_from(at - i64::from(back)).ok());
        let vtable = vtable.ok_or(Malformed { what: "a vtable outside the file", at })?;
        let len = u16::from_le_bytes(array(bytes, vtable, "a vtable outside the file")?);
        let fields = slice(bytes, vtable, usize::from(len), "a vtable longer than the file")?;
        let fields = fields.get(4..).ok_or(Malformed { what: "a vtable without its header", at: vtable })?;
        Ok(Table { bytes, at, vtable: fields })
    }

    /// Where a field lies; `None` where it has its default.
    fn field(&self, index: usize) -> Result<Option<usize>> {
        let entry = index.checked_mul(2).and_then(|at| self.vtable.get(at..)?.first_chunk::<2>());
        match entry.map_or(0, |entry| u16::from_le_bytes(*entry)) {
            0 => Ok(None),
            offset => match self.at.checked_add(usize::from(offset)) {
                Some(at) => Ok(Some(at)),
                None => Err(Malformed { what: "a field outside the file", at: self.at }),
            },
        }
    }

    fn scalar<const N: usize>(&self, index: usize) -> Result<Option<[u8; N]>> {
        self.field(index)?.map(|at| array(self.bytes, at, "a field outside the file")).transpose()
    }

    /// A signed byte: small numbers and enumerations.
    pub(super) fn i8(&self, index: usize, default: i8) -> Result<i8> {
        Ok(self.scalar(index)?.map_or(default, i8::from_le_bytes))
    }

    /// A truth value; false by default.
    pub(super) fn bool(&self, index: usize) -> Result<bool> {
        Ok(self.i8(index, 0)? != 0)
    }

    /// A signed word.
    pub(super) fn i32(&self, index: usize, default: i32) -> Result<i32> {
        Ok(self.scalar(index)?.map_or(default, i32::from_le_bytes))
    }

    /// An unsigned word; 0 by default.
    pub(super) fn u32(&self, index: usize) -> Result<u32> {
        Ok(self.scalar(index)?.map_or(0, u32::from_le_bytes))
    }

    /// An unsigned double word; 0 by default.
    pub(super) fn u64(&self, index: usize) -> Result<u64> {
        Ok(self.scalar(index)?.map_or(0, u64::from_le_bytes))
    }

    /// A real number.
    pub(super) fn f32(&self, index: usize, default: f32) -> Result<f32> {
        Ok(self.scalar(index)?.map_or(default, f32::from_le_bytes))
    }

    /// A table below this one; the empty table where it is absent.
    pub(super) fn table(&self, index: usize) -> Result<Table<'a>> {
        match self.field(index)? {
            Some(at) => Table::at(self.bytes, follow(self.bytes, at)?),
            None => Ok(Table::empty()),
        }
    }

    /// A vector of tables, of at most `limit`.
    pub(super) fn tables(&self, index: usize, limit: usize) -> Result<Vec<Table<'a>>> {
        let Some((start, count)) = self.vector(index, 4)? else { return Ok(Vec::new()) };
        if count > limit {
            return Err(Malformed { what: "more tables than a model has", at: start });
        }
        (0..count).map(|i| Table::at(self.bytes, follow(self.bytes, start + 4 * i)?)).collect()
    }

    /// A vector of scalars; empty where it is absent.
    pub(super) fn scalars<const N: usize>(&self, index: usize) -> Result<Scalars<'a, N>> {
        match self.vector(index, N)? {
            Some((start, count)) => Ok(Scalars(slice(self.bytes, start, count * N, "a vector outside the file")?)),
            None => Ok(Scalars(&[])),
        }
    }

    /// A string, cut to `limit` bytes; empty where it is absent, with replacement characters where it
    /// is no UTF-8.
    pub(super) fn string(&self, index: usize, limit: usize) -> Result<String> {
        let bytes = self.scalars::<1>(index)?.0;
        Ok(String::from_utf8_lossy(bytes.get(..limit).unwrap_or(bytes)).into_owned())
    }

    /// First byte and count of a vector that lies inside the buffer.
    fn vector(&self, index: usize, element: usize) -> Result<Option<(usize, usize)>> {
        let Some(at) = self.field(index)? else { return Ok(None) };
        let at = follow(self.bytes, at)?;
        let count = u32::from_le_bytes(array(self.bytes, at, "a vector outside the file")?) as usize;
        let what = "a vector longer than the file";
        let len = count.checked_mul(element).ok_or(Malformed { what, at })?;
        slice(self.bytes, at + 4, len, what)?;
        Ok(Some((at + 4, count)))
    }
}

impl<'a, const N: usize> Scalars<'a, N> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.0.len() / N
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The raw element at `index`.
    pub(super) fn get(&self, index: usize) -> Option<[u8; N]> {
        self.0.get(index.checked_mul(N)?..)?.first_chunk::<N>().copied()
    }

    /// The raw elements in order.
    pub(super) fn iter(self) -> impl Iterator<Item = [u8; N]> + 'a {
        (0..self.len()).filter_map(move |i| self.get(i))
    }

    /// The bytes of all elements.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// The place that the unsigned offset at `at` points to.
fn follow(bytes: &[u8], at: usize) -> Result<usize> {
    let offset = u32::from_le_bytes(array(bytes, at, "an offset outside the file")?) as usize;
    at.checked_add(offset).filter(|&to| to < bytes.len()).ok_or(Malformed { what: "an offset out of the file", at })
}

fn slice<'a>(bytes: &'a [u8], at: usize, len: usize, what: &'static str) -> Result<&'a [u8]> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or(Malformed { what, at })
}

fn array<const N: usize>(bytes: &[u8], at: usize, what: &'static str) -> Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(Malformed { what, at })
}
