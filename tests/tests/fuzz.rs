//! The corpora of the fuzz targets, replayed, and random damage to them.

use pare_tests::fuzz::mutate::mutate;
use pare_tests::fuzz::{Outcome, TARGETS, seeds};
use pare_tests::problems::Random;

#[test]
fn the_corpora_are_refused_or_run() {
    for &(target, run) in TARGETS {
        let seeds = seeds(target).expect("the corpora are part of the repository");
        let ran = seeds.iter().filter(|seed| run(seed) == Outcome::Ran).count();
        assert!(ran > 0, "nothing in the corpus of {target} is what it should be");
    }
}

#[test]
fn ten_thousand_random_mutations_are_refused_or_run() {
    for &(target, run) in TARGETS {
        let seeds = seeds(target).expect("the corpora are part of the repository");
        let seeds: Vec<Vec<u8>> = seeds.into_iter().filter(|seed| run(seed) == Outcome::Ran).collect();
        let mut random = Random(7);
        let mut outcomes = [0; 3];
        for _ in 0..10_000 {
            let mut pick = || &seeds[random.next() as usize % seeds.len()];
            let (seed, other) = (pick(), pick());
            outcomes[run(&mutate(seed, other, &mut random)) as usize] += 1;
        }
        // Both happen often, or the deep checks were never met.
        let [refused, _too_large, ran] = outcomes;
        assert!(refused > 500 && ran > 500, "{target}: refused, too large, ran: {outcomes:?}");
    }
}
