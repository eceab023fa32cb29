//! CIFAR-10 in its binary version: records of a label and a 32x32 image in three colour planes.

use std::path::Path;

use super::split::TestOrder;
use super::{DataError, Dataset, Elements, Splits, bounded};

const EDGE: usize = 32;
const PLANE: usize = EDGE * EDGE;
const CHANNELS: usize = 3;
const RECORD: usize = 1 + CHANNELS * PLANE;
const RECORDS_PER_FILE: u64 = 10_000;
const CLASSES: u8 = 10;

const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST_FILE: &str = "test_batch.bin";

/// Reads `dir/cifar-10-batches-bin/`; images become `[32, 32, 3]`, test is the official test set.
///
/// # Errors
/// When a file is missing, is not a whole number of records, or holds a label above 9.
pub fn read(dir: &Path) -> Result<Dataset, DataError> {
    let folder = dir.join("cifar-10-batches-bin");
    if !folder.is_dir() {
        return Err(DataError::malformed(
            dir,
            "holds no folder cifar-10-batches-bin: unpack cifar-10-binary.tar.gz there",
        ));
    }
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for file in TRAIN_FILES {
        read_file(&folder.join(file), &mut images, &mut labels)?;
    }
    let train = labels.len();
    read_file(&folder.join(TEST_FILE), &mut images, &mut labels)?;
    Ok(Dataset {
        name: String::new(),
        sample_shape: vec![EDGE, EDGE, CHANNELS],
        elements: Elements::U8(images),
        splits: Splits::with_test(train as u32, (labels.len() - train) as u32, TestOrder::OfFile),
        labels,
    })
}

fn read_file(path: &Path, images: &mut Vec<u8>, labels: &mut Vec<Option<u32>>) -> Result<(), DataError> {
    let file = bounded::open(path)?;
    let len = file.metadata().map_err(DataError::io(path))?.len();
    if len == 0 || len % RECORD as u64 != 0 || len > RECORDS_PER_FILE * RECORD as u64 {
        return Err(DataError::malformed(
            path,
            format!("has {len} bytes, not {RECORDS_PER_FILE} records of {RECORD}: unpack cifar-10-binary.tar.gz again"),
        ));
    }
    for record in bounded::read_exactly(path, file, len)?.chunks_exact(RECORD) {
        let (label, planes) = (record[0], &record[1..]);
        if label >= CLASSES {
            return Err(DataError::malformed(
                path,
                format!("holds the label {label}, above 9: it is no CIFAR-10 batch; download it again"),
            ));
        }
        labels.push(Some(u32::from(label)));
        images.extend((0..PLANE).flat_map(|pixel| (0..CHANNELS).map(move |c| planes[c * PLANE + pixel])));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write_set(edit: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cifar-10-batches-bin");
        fs::create_dir(&folder).unwrap();
        let mut test = Vec::new();
        for (i, name) in TRAIN_FILES.iter().chain([&TEST_FILE]).enumerate() {
            let mut record = vec![i as u8];
            record.extend((0..RECORD - 1).map(|at| (at / PLANE * 80 + at % 80) as u8));
            let bytes = record.repeat(2);
            fs::write(folder.join(name), &bytes).unwrap();
            test = bytes;
        }
        edit(&mut test);
        fs::write(folder.join(TEST_FILE), test).unwrap();
        dir
    }

    #[test]
    fn planes_become_pixels() {
        let set = read(write_set(|_| ()).path()).unwrap();
        assert_eq!(set.sample_shape, [32, 32, 3]);
        assert_eq!(set.labels, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5].map(Some));
        assert_eq!(set.splits.test, [10, 11]);
        let Elements::U8(bytes) = &set.elements else { panic!("{:?}", set.elements) };
        // Pixel 5 of sample 1: element `plane * 80 + 5` of each plane (1024 % 80 = 64 moves the ramp on).
        assert_eq!(bytes[3072 + 15..][..3], [5, (80 + (1024 + 5) % 80) as u8, (160 + (2048 + 5) % 80) as u8]);
    }

    #[test]
    fn damaged_files_are_named() {
        for edit in [
            (|bytes: &mut Vec<u8>| bytes.truncate(4000)) as fn(&mut Vec<u8>),
            |bytes| bytes.clear(),
            |bytes| bytes[RECORD] = 10,
        ] {
            let message = read(write_set(edit).path()).unwrap_err().to_string();
            assert!(message.contains("test_batch.bin") && message.contains("again"), "{message}");
        }
    }

    #[test]
    fn a_folder_without_batches_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("cifar-10-binary.tar.gz"));
    }
}
