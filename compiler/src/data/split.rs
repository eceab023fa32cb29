//! Which samples train, choose and report. The cuts depend on the number of samples alone, never on
//! the seed of a run: a second run with another seed must not train on what the first one tested.

use crate::rng::Pcg32;

const SPLIT_SEED: u64 = 0x7061_7265;

/// Which samples belong where; the three never overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// For calibration, search and training; in random order, so that any prefix is a fair sample.
    pub train: Vec<u32>,
    /// Cut from the training samples, to choose between candidates; in random order.
    pub val: Vec<u32>,
    /// For the reported figure alone.
    pub test: Vec<u32>,
}

/// Name of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// See [`Splits::train`].
    Train,
    /// See [`Splits::val`].
    Val,
    /// See [`Splits::test`].
    Test,
}

/// In what order the test samples of a file are listed; a limited evaluation takes the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestOrder {
    /// As the file has them, for sets whose published order is already mixed.
    OfFile,
    /// Mixed, for files that may be sorted by class.
    Random,
}

impl Splits {
    /// Splits of a set that comes with a test set: samples `0..train` and then `test` more. Val is
    /// the last tenth of the shuffled training samples.
    pub fn with_test(train: u32, test: u32, order: TestOrder) -> Self {
        let test = match order {
            TestOrder::OfFile => (0..test).collect(),
            TestOrder::Random => shuffled(test),
        };
        let test = test.into_iter().map(|index| train + index).collect();
        let (train, val) = cut(shuffled(train), train as usize / 10);
        Splits { train, val, test }
    }

    /// Splits of a set in one piece: of the shuffled samples the first 40 % for training and val, the
    /// other 60 % for the test. Val is a tenth of the former or, where that is less than
    /// [`FEW`](Self::FEW) samples, as many, half of them at most.
    pub fn without_test(count: u32) -> Self {
        let mut train = shuffled(count);
        let test = train.split_off((u64::from(count) * 2 / 5) as usize);
        let val = enough_val(train.len());
        let (train, val) = cut(train, val);
        Splits { train, val, test }
    }

    /// Splits of a set in one piece for part `fold` (from 0) of a cross-validation: that fifth of the
    /// shuffled samples is the test, the others are cut as [`without_test`](Self::without_test) does. Every sample is
    /// in the test of one of the [`FOLDS`](Self::FOLDS).
    pub fn of_fold(count: u32, fold: usize) -> Self {
        let mut train = shuffled(count);
        let at = |fold: usize| (count as usize * fold / Self::FOLDS).min(train.len());
        let range = at(fold)..at(fold + 1);
        let test = train.drain(range).collect();
        let val = enough_val(train.len());
        let (train, val) = cut(train, val);
        Splits { train, val, test }
    }

    /// Parts of a cross-validation.
    pub const FOLDS: usize = 5;

    /// Fewer samples than this say little about a candidate: the standard error of a share among
    /// them is two points and more.
    pub const FEW: usize = 500;
}

fn shuffled(count: u32) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..count).collect();
    Pcg32::new(SPLIT_SEED, 0).shuffle(&mut indices);
    indices
}

/// The last `val` samples apart.
fn cut(mut train: Vec<u32>, val: usize) -> (Vec<u32>, Vec<u32>) {
    let val = train.split_off(train.len() - val);
    (train, val)
}

/// How many of a set in one piece are val.
fn enough_val(train: usize) -> usize {
    (train / 10).max(Splits::FEW.min(train / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_partition(splits: &Splits, count: u32) {
        let mut all: Vec<u32> = [&splits.train, &splits.val, &splits.test].into_iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn every_sample_is_in_exactly_one_split() {
        for count in [0, 1, 2, 3, 9, 10, 11, 100, 2501] {
            assert_partition(&Splits::without_test(count), count);
            assert_partition(&Splits::with_test(count, 7, TestOrder::Random), count + 7);
            (0..Splits::FOLDS).for_each(|fold| assert_partition(&Splits::of_fold(count, fold), count));
        }
    }

    #[test]
    fn every_sample_tests_one_fold() {
        for count in [5, 9, 300] {
            let mut all: Vec<u32> = (0..Splits::FOLDS).flat_map(|fold| Splits::of_fold(count, fold).test).collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sizes_are_the_documented_ones() {
        let splits = Splits::without_test(1000);
        assert_eq!((splits.train.len(), splits.val.len(), splits.test.len()), (200, 200, 600));
        let splits = Splits::without_test(20_000);
        assert_eq!((splits.train.len(), splits.val.len(), splits.test.len()), (7200, 800, 12_000));
        let splits = Splits::of_fold(300, 4);
        assert_eq!((splits.train.len(), splits.val.len(), splits.test.len()), (120, 120, 60));
        let splits = Splits::with_test(50_000, 10_000, TestOrder::OfFile);
        assert_eq!((splits.train.len(), splits.val.len(), splits.test.len()), (45_000, 5_000, 10_000));
        assert_eq!(splits.test[0], 50_000);
    }

    #[test]
    fn the_cut_never_changes() {
        assert_eq!(Splits::without_test(10).test, [1, 6, 9, 5, 0, 7]);
    }
}
