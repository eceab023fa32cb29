//! NumPy archives: arrays `x` (samples along the first dimension) and `y` (one label a sample, may
//! be absent).
//!
//! Bytes, halves and singles stay as they are; the other number types become singles.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::f16;
use zip::ZipArchive;
use zip::result::ZipError;

use super::split::TestOrder;
use super::{DataError, Dataset, Elements, Splits, bounded};

/// Reads one archive and cuts it by [`Splits::without_test`].
///
/// # Errors
/// When the file is no archive of plain arrays, is cut short, or `y` does not fit `x`.
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    let Part { count, sample_shape, elements, labels } = Part::read(path)?;
    Ok(Dataset { name: String::new(), sample_shape, elements, labels, splits: Splits::without_test(count) })
}

/// Reads two archives: train and val are cut from the first, the second is the test set, in random
/// order (such files are often sorted by class).
///
/// # Errors
/// As [`read`], and when the samples of the two differ in shape or element type.
pub fn read_pair(train_path: &Path, test_path: &Path) -> Result<Dataset, DataError> {
    let mut train = Part::read(train_path)?;
    let test = Part::read(test_path)?;
    if train.sample_shape != test.sample_shape {
        return Err(DataError::malformed(
            test_path,
            format!(
                "samples are {:?} and those of {} {:?}: use archives of one set",
                test.sample_shape,
                train_path.display(),
                train.sample_shape
            ),
        ));
    }
    match (&mut train.elements, test.elements) {
        (Elements::U8(all), Elements::U8(more)) => all.extend(more),
        (Elements::F16(all), Elements::F16(more)) => all.extend(more),
        (Elements::F32(all), Elements::F32(more)) => all.extend(more),
        _ => {
            return Err(DataError::malformed(
                test_path,
                format!("x has another element type than in {}: save both with the same dtype", train_path.display()),
            ));
        }
    }
    train.labels.extend(test.labels);
    Ok(Dataset {
        name: String::new(),
        sample_shape: train.sample_shape,
        elements: train.elements,
        labels: train.labels,
        splits: Splits::with_test(train.count, test.count, TestOrder::Random),
    })
}

/// One archive.
struct Part {
    count: u32,
    sample_shape: Vec<usize>,
    elements: Elements,
    labels: Vec<Option<u32>>,
}

impl Part {
    fn read(path: &Path) -> Result<Self, DataError> {
        let mut archive = ZipArchive::new(bounded::open(path)?).map_err(|e| zip_error(path, e))?;
        let x = Array::read(&mut archive, "x", path)?.ok_or_else(|| {
            DataError::malformed(path, "holds no array x: save it with numpy.savez(file, x=..., y=...)")
        })?;
        let (count, sample_shape) = match x.shape.split_first() {
            Some((&count, dims)) if count > 0 && dims.iter().all(|&dim| dim > 0) => (count, dims.to_vec()),
            _ => {
                return Err(DataError::malformed(
                    path,
                    format!("x has the shape {:?}: its first dimension must count samples, and none may be 0", x.shape),
                ));
            }
        };
        let samples = i32::try_from(count)
            .map_err(|_| DataError::malformed(path, format!("x has {count} samples: use fewer than 2^31")))?;
        let labels = match Array::read(&mut archive, "y", path)? {
            Some(y) => labels(&y, count, path)?,
            None => vec![None; count],
        };
        Ok(Part { count: samples.unsigned_abs(), sample_shape, elements: x.elements(), labels })
    }
}

fn labels(y: &Array, count: usize, path: &Path) -> Result<Vec<Option<u32>>, DataError> {
    if y.shape != [count] && y.shape != [count, 1] {
        return Err(DataError::malformed(
            path,
            format!("y has the shape {:?} and x {count} samples: give one label a sample, shape [{count}]", y.shape),
        ));
    }
    let label = |number: f64| {
        let whole = number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0;
        whole.then_some(Some(number as u32)).ok_or_else(|| {
            DataError::malformed(path, format!("y holds {number}, which is no label: use whole numbers from 0"))
        })
    };
    y.numbers().map(label).collect()
}

/// Element types, little-endian, as NumPy writes them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dtype {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Dtype {
    fn parse(descr: &str) -> Option<Self> {
        Some(match descr {
            "|u1" | "|b1" => Dtype::U8,
            "|i1" => Dtype::I8,
            "<u2" => Dtype::U16,
            "<i2" => Dtype::I16,
            "<u4" => Dtype::U32,
            "<i4" => Dtype::I32,
            "<u8" => Dtype::U64,
            "<i8" => Dtype::I64,
            "<f2" => Dtype::F16,
            "<f4" => Dtype::F32,
            "<f8" => Dtype::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// The number in `bytes` little-endian bytes; 64-bit integers are rounded to 53 bits.
    fn number(self, element: &[u8]) -> f64 {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(element) {
            *to = *from;
        }
        let bits = u64::from_le_bytes(word);
        match self {
            Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => bits as f64,
            Dtype::I8 => f64::from(bits as i8),
            Dtype::I16 => f64::from(bits as i16),
            Dtype::I32 => f64::from(bits as i32),
            Dtype::I64 => bits as i64 as f64,
            Dtype::F16 => f16::from_bits(bits as u16).to_f64(),
            Dtype::F32 => f64::from(f32::from_bits(bits as u32)),
            Dtype::F64 => f64::from_bits(bits),
        }
    }
}

/// One `.npy` member.
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// The member `name.npy`; `None` when the archive has none.
    fn read(archive: &mut ZipArchive<File>, name: &str, path: &Path) -> Result<Option<Self>, DataError> {
        let mut member = match archive.by_name(&format!("{name}.npy")) {
            Ok(member) => member,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(e) => return Err(zip_error(path, e)),
        };
        let malformed = |problem: &str| DataError::malformed(path, format!("array {name} {problem}"));
        let header = read_header(&mut member)
            .map_err(DataError::io(path))?
            .ok_or_else(|| malformed("does not begin like a .npy file: save it with numpy.savez"))?;
        let descr = quoted(value_of(&header, "descr").unwrap_or(""))
            .ok_or_else(|| malformed("is a structured array: save plain numbers"))?;
        let dtype = Dtype::parse(descr).ok_or_else(|| {
            malformed(&format!("has the dtype {descr}: save little-endian u8, i8 to i64, f16, f32 or f64"))
        })?;
        if !value_of(&header, "fortran_order").is_some_and(|value| value.starts_with("False")) {
            return Err(malformed("is in Fortran order: save numpy.ascontiguousarray of it"));
        }
        let shape = value_of(&header, "shape")
            .and_then(parse_shape)
            .ok_or_else(|| malformed("has a damaged header: save it with numpy.savez"))?;
        let len = shape
            .iter()
            .try_fold(dtype.bytes(), |len, &dim| len.checked_mul(dim))
            .ok_or_else(|| malformed("promises more elements than memory can hold: save a smaller one"))?;
        let bytes = bounded::read_exactly(path, member, len as u64)?;
        Ok(Some(Array { dtype, shape, bytes }))
    }

    fn numbers(&self) -> impl Iterator<Item = f64> + '_ {
        self.bytes.chunks_exact(self.dtype.bytes()).map(|element| self.dtype.number(element))
    }

    fn elements(self) -> Elements {
        match self.dtype {
            Dtype::U8 => Elements::U8(self.bytes),
            Dtype::F16 => Elements::F16(self.bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()),
            _ => Elements::F32(self.numbers().map(|x| x as f32).collect()),
        }
    }
}

/// The text of a `.npy` header, a Python dictionary; `None` when the file is of another kind.
fn read_header(reader: &mut impl Read) -> std::io::Result<Option<String>> {
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    let len = match magic {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
            let mut len = [0; 2];
            reader.read_exact(&mut len)?;
            u32::from(u16::from_le_bytes(len))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
            let mut len = [0; 4];
            reader.read_exact(&mut len)?;
            u32::from_le_bytes(len)
        }
        _ => return Ok(None),
    };
    let mut text = Vec::new();
    reader.take(u64::from(len.min(1 << 16))).read_to_end(&mut text)?;
    Ok((text.len() as u64 == u64::from(len)).then(|| String::from_utf8_lossy(&text).into_owned()))
}

/// What follows `'key':` in a Python dictionary.
fn value_of<'a>(dictionary: &'a str, key: &str) -> Option<&'a str> {
    let (_, after) = dictionary.split_once(&format!("'{key}'"))?;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(value: &str) -> Option<&str> {
    Some(value.strip_prefix('\'')?.split_once('\'')?.0)
}

fn parse_shape(value: &str) -> Option<Vec<usize>> {
    let (tuple, _) = value.strip_prefix('(')?.split_once(')')?;
    let numbers = tuple.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    numbers.map(|dim| dim.parse().ok()).collect()
}

fn zip_error(path: &Path, error: ZipError) -> DataError {
    match error {
        ZipError::Io(source) => DataError::Io { path: path.to_owned(), source },
        error => DataError::malformed(path, format!("is no archive as numpy.savez writes it ({error}): save it again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(bytes);
        file
    }

    fn archive_by(method: CompressionMethod, members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in members {
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    fn archive(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        archive_by(CompressionMethod::Deflated, members)
    }

    fn problem(members: &[(&str, &[u8])]) -> String {
        read(archive(members).path()).unwrap_err().to_string()
    }

    #[test]
    fn stored_and_deflated_members_read_alike() {
        let x = npy("|u1", "(3, 2)", &[1, 2, 3, 4, 5, 6]);
        let y = npy("<i8", "(3,)", &[0i64, 7, 300].map(i64::to_le_bytes).concat());
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let set = read(archive_by(method, &[("x", &x), ("y", &y)]).path()).unwrap();
            assert_eq!(set.sample_shape, [2]);
            assert!(matches!(&set.elements, Elements::U8(bytes) if bytes == &[1, 2, 3, 4, 5, 6]));
            assert_eq!(set.labels, [0, 7, 300].map(Some));
        }
    }

    #[test]
    fn every_dtype_gives_its_numbers() {
        let cases: [(&str, Vec<u8>); 11] = [
            ("|u1", vec![3, 100]),
            ("|i1", vec![3, 100]),
            ("<u2", [3u16, 100].map(u16::to_le_bytes).concat()),
            ("<i2", [3i16, 100].map(i16::to_le_bytes).concat()),
            ("<u4", [3u32, 100].map(u32::to_le_bytes).concat()),
            ("<i4", [3i32, 100].map(i32::to_le_bytes).concat()),
            ("<u8", [3u64, 100].map(u64::to_le_bytes).concat()),
            ("<i8", [3i64, 100].map(i64::to_le_bytes).concat()),
            ("<f2", [3.0, 100.0].map(|x| f16::from_f32(x).to_le_bytes()).concat()),
            ("<f4", [3f32, 100.0].map(f32::to_le_bytes).concat()),
            ("<f8", [3f64, 100.0].map(f64::to_le_bytes).concat()),
        ];
        for (descr, bytes) in cases {
            let array = npy(descr, "(2, 1)", &bytes);
            let set = read(archive(&[("x", &array), ("y", &array)]).path()).unwrap();
            let mut sample = [0.0];
            set.read(1, &super::super::Preprocessing::IDENTITY, &mut sample);
            assert_eq!((sample, &set.labels[..]), ([100.0], &[Some(3), Some(100)][..]), "{descr}");
        }
        let negative = npy("<i2", "(1, 1)", &(-2i16).to_le_bytes());
        assert!(matches!(read(archive(&[("x", &negative)]).path()).unwrap().elements, Elements::F32(x) if x == [-2.0]));
        assert!(problem(&[("x", &negative), ("y", &negative)]).contains("y holds -2"));
    }

    #[test]
    fn a_pair_may_lack_training_labels() {
        let train = archive(&[("x", &npy("<f2", "(2, 1)", &[0; 4]))]);
        let test = archive(&[("x", &npy("<f2", "(2, 1)", &[0; 4])), ("y", &npy("|u1", "(2,)", &[0, 1]))]);
        let set = read_pair(train.path(), test.path()).unwrap();
        assert_eq!(set.labels, [None, None, Some(0), Some(1)]);
        let mut tested = set.splits.test.clone();
        tested.sort_unstable();
        assert_eq!(tested, [2, 3]);
    }

    #[test]
    fn pairs_of_different_sets_are_refused() {
        let train = archive(&[("x", &npy("|u1", "(2, 2)", &[0; 4]))]);
        let longer = archive(&[("x", &npy("|u1", "(2, 3)", &[0; 6]))]);
        let float = archive(&[("x", &npy("<f4", "(1, 2)", &[0; 8]))]);
        let message = |test: &tempfile::NamedTempFile| read_pair(train.path(), test.path()).unwrap_err().to_string();
        assert!(message(&longer).contains("one set"));
        assert!(message(&float).contains("same dtype"));
    }

    #[test]
    fn hostile_arrays_are_refused() {
        let x = npy("|u1", "(3, 2)", &[0; 6]);
        let fortran = String::from_utf8_lossy(&npy("|u1", "(2, 2)", &[0; 4])).replace("False", "True ");
        let fortran: Vec<u8> = std::iter::once(0x93).chain(fortran.bytes().skip("\u{fffd}".len())).collect();
        let cases: [(&[(&str, &[u8])], &str); 13] = [
            (&[("z", &x)], "holds no array x"),
            (&[("x", &npy("|u1", "(3, 2)", &[0; 5]))], "cut short"),
            (&[("x", &npy("|u1", "(3, 2)", &[0; 7]))], "more than"),
            (&[("x", &npy("|u1", "(3000000000, 3000000000, 9)", &[0; 7]))], "more elements"),
            (&[("x", &npy("<f8", "(1000000000, 1)", &[0; 7]))], "promises 8000000000 bytes"),
            (&[("x", &npy("|u1", "(0, 2)", &[]))], "shape [0, 2]"),
            (&[("x", &npy("|u1", "()", &[0]))], "shape []"),
            (&[("x", &npy("|u1", "(-3, 2)", &[0; 6]))], "damaged header"),
            (&[("x", &npy("|O", "(3, 2)", &[0; 6]))], "dtype |O"),
            (&[("x", &fortran)], "Fortran"),
            (&[("x", &x), ("y", &npy("|u1", "(2,)", &[0; 2]))], "one label a sample"),
            (&[("x", &x), ("y", &npy("|u1", "(3, 2)", &[0; 6]))], "one label a sample"),
            (&[("x", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'")], "does not begin"),
        ];
        for (members, expected) in cases {
            let message = problem(members);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn other_files_and_damaged_ones_are_refused() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), b"no archive").unwrap();
        assert!(read(path.path()).unwrap_err().to_string().contains("numpy.savez"));
        let bytes = std::fs::read(archive(&[("x", &npy("|u1", "(40, 2)", &[9; 80]))]).path()).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(path.path(), &bytes[..cut]).unwrap();
            assert!(read(path.path()).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            std::fs::write(path.path(), &damaged).unwrap();
            let _ = read(path.path());
        }
    }
}
