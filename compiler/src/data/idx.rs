//! MNIST and its look-alikes: idx files of bytes, plain or gzipped.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::split::TestOrder;
use super::{DataError, Dataset, Elements, Splits, bounded};

/// Reads `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]` of `dir`; images become `[h, w, 1]`,
/// test is the official test set (t10k).
///
/// # Errors
/// When a file is missing, cut short or no idx file of bytes, or when counts or sizes disagree.
pub fn read(dir: &Path) -> Result<Dataset, DataError> {
    let train = Part::read(dir, "train")?;
    let test = Part::read(dir, "t10k")?;
    if train.size != test.size {
        return Err(DataError::malformed(
            dir,
            format!(
                "training images are {}x{} and test images {}x{}: use files of one set",
                train.size[0], train.size[1], test.size[0], test.size[1]
            ),
        ));
    }
    let splits = Splits::with_test(train.labels.len() as u32, test.labels.len() as u32, TestOrder::OfFile);
    let mut images = train.images;
    images.extend(test.images);
    Ok(Dataset {
        name: String::new(),
        sample_shape: vec![train.size[0], train.size[1], 1],
        elements: Elements::U8(images),
        labels: train.labels.into_iter().chain(test.labels).map(|label| Some(u32::from(label))).collect(),
        splits,
    })
}

struct Part {
    size: [usize; 2],
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Part {
    fn read(dir: &Path, name: &str) -> Result<Self, DataError> {
        let path = find(dir, &format!("{name}-images-idx3-ubyte"))?;
        let ([count, rows, columns], images) = read_idx(&path)?;
        let labels_path = find(dir, &format!("{name}-labels-idx1-ubyte"))?;
        let ([labelled], labels) = read_idx(&labels_path)?;
        if labelled != count {
            return Err(DataError::malformed(
                &labels_path,
                format!("has {labelled} labels for the {count} images of {}: use files of one set", path.display()),
            ));
        }
        Ok(Part { size: [rows as usize, columns as usize], images, labels })
    }
}

fn find(dir: &Path, name: &str) -> Result<PathBuf, DataError> {
    [dir.join(name), dir.join(format!("{name}.gz"))]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| DataError::malformed(dir, format!("holds neither {name} nor {name}.gz: put the file there")))
}

/// Dimensions and bytes of an idx file: two zeros, the element type (8: bytes), the number of
/// dimensions, each dimension as a big-endian u32, the elements.
fn read_idx<const RANK: usize>(path: &Path) -> Result<([u32; RANK], Vec<u8>), DataError> {
    let file = BufReader::new(bounded::open(path)?);
    let mut reader: Box<dyn Read> =
        if path.extension().is_some_and(|e| e == "gz") { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut word = [0; 4];
    reader.read_exact(&mut word).map_err(DataError::io(path))?;
    if word != [0, 0, 8, RANK as u8] {
        return Err(DataError::malformed(
            path,
            format!("does not begin like an idx file of bytes in {RANK} dimensions: download it again"),
        ));
    }
    let mut dims = [0; RANK];
    for dim in &mut dims {
        reader.read_exact(&mut word).map_err(DataError::io(path))?;
        *dim = u32::from_be_bytes(word);
    }
    let len = dims.iter().try_fold(1u64, |len, &dim| len.checked_mul(u64::from(dim))).unwrap_or(u64::MAX);
    if len == 0 {
        return Err(DataError::malformed(path, "holds no element: download it again"));
    }
    Ok((dims, bounded::read_exactly(path, reader, len)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
    use std::io::Write;

    fn idx(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| file.extend(dim.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn write_set(test_images: Vec<u8>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("train-images-idx3-ubyte"), idx(&[2, 2, 3], &(0..12).collect::<Vec<_>>())).unwrap();
        fs::write(path("train-labels-idx1-ubyte"), idx(&[2], &[7, 3])).unwrap();
        fs::write(path("t10k-labels-idx1-ubyte"), idx(&[1], &[9])).unwrap();
        let mut gz = GzEncoder::new(fs::File::create(path("t10k-images-idx3-ubyte.gz")).unwrap(), Compression::fast());
        gz.write_all(&test_images).unwrap();
        gz.finish().unwrap();
        dir
    }

    #[test]
    fn reads_plain_and_gzipped_files() {
        let set = read(write_set(idx(&[1, 2, 3], &[1, 2, 3, 4, 5, 6])).path()).unwrap();
        assert_eq!(set.sample_shape, [2, 3, 1]);
        assert_eq!(set.labels, [7, 3, 9].map(Some));
        assert_eq!(set.splits.test, [2]);
        let mut sample = [0.0; 6];
        set.read(2, &super::super::Preprocessing::IDENTITY, &mut sample);
        assert_eq!(sample, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn damaged_files_are_named() {
        for (file, problem) in [
            (idx(&[1, 2, 3], &[0; 5]), "cut short"),
            (idx(&[1, 2, 3], &[0; 7]), "more than"),
            (idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 7]), "promises"),
            (idx(&[1000, 1000, 1000], &[0; 7]), "cut short"),
            (idx(&[2, 2, 3], &[0; 12]), "1 labels for the 2 images"),
            (idx(&[1, 3, 3], &[0; 9]), "use files of one set"),
            (idx(&[6], &[0; 6]), "3 dimensions"),
            (idx(&[0, 2, 3], &[]), "no element"),
            (vec![0, 0], "cannot read"),
        ] {
            let message = read(write_set(file).path()).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("train-images-idx3-ubyte.gz"));
    }
}
