//! A folder a class, each full of PNG, JPEG or WebP files of one size; classes are numbered in the
//! order of their folders' names.

use std::fs;
use std::path::{Path, PathBuf};

use image::{ColorType, ImageDecoder, ImageReader};
use rayon::prelude::*;

use super::split::TestOrder;
use super::{DataError, Dataset, Elements, Splits, bounded};

const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Reads `dir/CLASS/*`, cut by [`Splits::without_test`]; or, where `dir` holds the folders `train`
/// and `test`, `dir/train/CLASS/*` and `dir/test/CLASS/*`. Samples are `[h, w, 1]` when every image
/// is grey, else `[h, w, 3]`; transparency is dropped.
///
/// # Errors
/// When there is no image, an image cannot be decoded, sizes differ, or the test folder has a class
/// that the training folder lacks.
pub fn read(dir: &Path) -> Result<Dataset, DataError> {
    let (train_dir, test_dir) = (dir.join("train"), dir.join("test"));
    let (mut files, train) = if train_dir.is_dir() && test_dir.is_dir() {
        let classes = class_names(&train_dir)?;
        let mut files = list(&train_dir, &classes)?;
        let train = files.len();
        files.extend(list(&test_dir, &classes)?);
        (files, Some(train))
    } else {
        let classes = class_names(dir)?;
        let files = list(dir, &classes)?;
        (files, None)
    };
    if files.is_empty() {
        return Err(DataError::malformed(
            dir,
            "holds no image: put PNG, JPEG or WebP files into one folder a class, as DIR/cat/1.png",
        ));
    }
    let count = u32::try_from(files.len())
        .map_err(|_| DataError::malformed(dir, format!("holds {} images: use fewer than 2^32", files.len())))?;
    let splits = match train {
        Some(train) => Splits::with_test(train as u32, count - train as u32, TestOrder::Random),
        None => Splits::without_test(count),
    };
    let labels = files.iter().map(|file| Some(file.label)).collect();
    let form = Form::of(dir, &files)?;
    let images: Vec<Vec<u8>> =
        files.par_drain(..).map(|file| form.decode(&file.path)).collect::<Result<_, DataError>>()?;
    Ok(Dataset {
        name: String::new(),
        sample_shape: vec![form.height as usize, form.width as usize, form.channels()],
        elements: Elements::U8(images.concat()),
        labels,
        splits,
    })
}

struct LabelledFile {
    path: PathBuf,
    label: u32,
}

/// Entries of a folder in the order of their names.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
        .map_err(DataError::io(dir))?;
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

fn class_names(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let folders = entries(dir)?.into_iter().filter(|path| path.is_dir());
    Ok(folders.filter_map(|path| path.file_name().map(PathBuf::from)).collect())
}

fn list(dir: &Path, classes: &[PathBuf]) -> Result<Vec<LabelledFile>, DataError> {
    let mut files = Vec::new();
    for folder in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        let label = classes.iter().position(|class| folder.ends_with(class)).ok_or_else(|| {
            DataError::malformed(&folder, "is no class of the training folder: add its images there or remove it")
        })?;
        let is_image = |path: &PathBuf| {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
            EXTENSIONS.contains(&extension.as_str())
        };
        let images = entries(&folder)?.into_iter().filter(is_image);
        files.extend(images.map(|path| LabelledFile { path, label: label as u32 }));
    }
    Ok(files)
}

/// What all images have in common.
struct Form {
    width: u32,
    height: u32,
    grey: bool,
}

impl Form {
    /// Read from the headers alone, before anything is decoded.
    fn of(dir: &Path, files: &[LabelledFile]) -> Result<Self, DataError> {
        let mut form: Option<Form> = None;
        for file in files {
            let decoder = reader(&file.path)?.into_decoder().map_err(|e| undecodable(&file.path, e))?;
            let (width, height) = decoder.dimensions();
            let grey =
                matches!(decoder.color_type(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16);
            match &mut form {
                None => form = Some(Form { width, height, grey }),
                Some(form) if (form.width, form.height) == (width, height) => form.grey &= grey,
                Some(form) => {
                    return Err(DataError::malformed(
                        &file.path,
                        format!(
                            "is {width}x{height} and the images before it {}x{}: resize all to one size first",
                            form.width, form.height
                        ),
                    ));
                }
            }
        }
        let form = form.ok_or_else(|| DataError::malformed(dir, "holds no image: add some"))?;
        let bytes = u64::from(form.width) * u64::from(form.height) * form.channels() as u64;
        if bytes.saturating_mul(files.len() as u64) > bounded::MAX_BYTES {
            return Err(DataError::malformed(
                dir,
                format!(
                    "holds {} images of {}x{}, more than fit in memory: resize or remove some",
                    files.len(),
                    form.width,
                    form.height
                ),
            ));
        }
        Ok(form)
    }

    fn channels(&self) -> usize {
        if self.grey { 1 } else { 3 }
    }

    fn decode(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let image = reader(path)?.decode().map_err(|e| undecodable(path, e))?;
        if (image.width(), image.height()) != (self.width, self.height) {
            return Err(DataError::malformed(path, "changed while it was read: start again"));
        }
        Ok(if self.grey { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() })
    }
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<fs::File>>, DataError> {
    ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(DataError::io(path))
}

fn undecodable(path: &Path, error: image::ImageError) -> DataError {
    DataError::malformed(path, format!("cannot be decoded as PNG, JPEG or WebP ({error}): replace or remove it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    fn folder(files: &[(&str, [u32; 2], u8)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, [width, height], grey) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            GrayImage::from_pixel(*width, *height, Luma([*grey])).save(path).unwrap();
        }
        dir
    }

    fn bytes(set: &Dataset) -> &[u8] {
        let Elements::U8(bytes) = &set.elements else { panic!("{:?}", set.elements) };
        bytes
    }

    #[test]
    fn folders_are_classes_in_the_order_of_their_names() {
        let dir = folder(&[("dog/1.png", [2, 1], 7), ("cat/2.png", [2, 1], 8), ("cat/1.jpeg", [2, 1], 128)]);
        fs::write(dir.path().join("cat/notes.txt"), "no image").unwrap();
        let set = read(dir.path()).unwrap();
        assert_eq!(set.sample_shape, [1, 2, 1]);
        assert_eq!(set.labels, [0, 0, 1].map(Some));
        assert_eq!(bytes(&set), [128, 128, 8, 8, 7, 7]);
        assert_eq!(set.splits, Splits::without_test(3));
    }

    #[test]
    fn one_colour_image_makes_all_of_them_colour() {
        let dir = folder(&[("a/1.png", [1, 1], 7)]);
        RgbImage::from_pixel(1, 1, Rgb([1, 2, 3])).save(dir.path().join("a/2.png")).unwrap();
        let set = read(dir.path()).unwrap();
        assert_eq!((set.sample_shape.as_slice(), bytes(&set)), (&[1, 1, 3][..], &[7, 7, 7, 1, 2, 3][..]));
    }

    #[test]
    fn train_and_test_folders_are_kept_apart() {
        let dir = folder(&[("train/a/1.png", [1, 1], 1), ("train/b/1.png", [1, 1], 2), ("test/b/1.png", [1, 1], 3)]);
        let set = read(dir.path()).unwrap();
        assert_eq!((set.splits.test.as_slice(), &set.labels[..]), (&[2][..], &[0, 1, 1].map(Some)[..]));
        fs::create_dir(dir.path().join("test/c")).unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("no class of the training folder"));
    }

    #[test]
    fn unequal_sizes_and_damaged_files_are_named() {
        let dir = folder(&[("a/1.png", [2, 1], 7), ("a/2.png", [2, 2], 7)]);
        let message = read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("2.png") && message.contains("resize"), "{message}");
        let cut = fs::read(dir.path().join("a/1.png")).unwrap();
        fs::write(dir.path().join("a/2.png"), &cut[..cut.len() / 2]).unwrap();
        let message = read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("2.png") && message.contains("remove"), "{message}");
        // A PNG header that promises 2^31 - 1 pixels a side must not be believed.
        let mut huge = cut;
        huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        fs::write(dir.path().join("a/1.png"), huge).unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("1.png"));
    }

    #[test]
    fn an_empty_folder_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("one folder a class"));
    }
}
