//! Blobs as they are stored: the same bytes again, and no panic whatever is read.

use std::panic::catch_unwind;

use pare::storage::{MAGIC, StorageError, decode, encode, is_stored};
use pare_runtime::Model;
use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_tests::blob::{Builder, every_operator, in_a_row};
use pare_tests::problems::{ConvProblem, ConvSpec, Numbers, Random, conv_problems};
use proptest::prelude::*;

fn network(problem: &ConvProblem) -> Vec<u8> {
    let mut b = Builder::default();
    let input = b.input(problem);
    b.outputs = vec![b.conv(input, problem)];
    b.finish()
}

#[test]
fn every_operator_comes_back() {
    for blob in [every_operator(), in_a_row(Some(4)), in_a_row(None)] {
        let stored = encode(&blob).unwrap();
        assert!(is_stored(&stored) && !is_stored(&blob));
        assert_eq!(decode(&stored).as_deref(), Ok(&blob[..]));
    }
    assert_eq!(encode(b"no blob"), None);
}

#[test]
fn few_weights_of_few_values_take_about_what_they_say() {
    let (inputs, outputs, one_of) = (784, 300, 20);
    let shape = Shape { h: 1, w: 1, c: inputs };
    let bytes = [Layout::Panels, Layout::Sparse].map(|layout| {
        let spec = ConvSpec::dense(shape, outputs, 1, 1, WeightFormat::Codebook(4), layout);
        let problem = ConvProblem::new(ConvSpec { numbers: Numbers::OneOf(one_of), ..spec });
        encode(&network(&problem)).unwrap().len() as f64
    });
    let density: f64 = 15.0 / 16.0 / f64::from(one_of);
    let weights = (inputs * outputs) as f64;
    let flags = -density * density.log2() - (1.0 - density) * (1.0 - density).log2();
    let entropy = weights * (flags + density * 15f64.log2()) / 8.0;
    // Biases and multipliers are random words.
    let numbers = 8.0 * outputs as f64;
    assert!(bytes[1] < 1.04 * entropy + numbers + 300.0, "{} bytes, {entropy} of entropy", bytes[1]);
}

#[test]
fn damaged_and_cut_streams_are_refused() {
    let blob = every_operator();
    let stored = encode(&blob).unwrap();
    assert_eq!(decode(&blob), Err(StorageError::Magic));
    assert!(decode(&MAGIC).is_err());
    let mut random = Random(7);
    for _ in 0..400 {
        let mut damaged = stored.clone();
        let at = MAGIC.len() + random.next() as usize % (stored.len() - MAGIC.len());
        damaged[at] ^= 1 << (random.next() % 8);
        assert!(catch_unwind(|| decode(&damaged)).unwrap().is_err());
        assert!(decode(&stored[..at]).is_err() || stored[at..].iter().all(|&byte| byte == 0));
    }
    for _ in 0..400 {
        let noise: Vec<u8> = MAGIC.into_iter().chain((0..40).map(|_| random.next() as u8)).collect();
        assert!(decode(&noise).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_blob_comes_back(problem in conv_problems()) {
        prop_assume!(problem.spec.residual.is_none());
        let blob = network(&problem);
        prop_assert!(Model::parse(&blob).is_ok());
        let again = decode(&encode(&blob).unwrap());
        prop_assert_eq!(again.as_deref(), Ok(&blob[..]));
    }
}
