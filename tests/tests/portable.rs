//! The kernels without `unsafe`, and everything around them, on problems small and few enough for Miri:
//!
//!     cargo +nightly miri test -p pare-tests --no-default-features --test portable

use pare_runtime::format::{Layout, Shape, WeightFormat};
use pare_runtime::{Isa, Model, Session};
use pare_tests::blob::every_operator;
use pare_tests::problems::{ConvProblem, ConvSpec};

#[test]
fn every_operator_gives_the_bytes_of_the_reference() {
    let blob = every_operator();
    // Wherever the allocator puts it.
    let mut room = vec![0; blob.len() + 64];
    let at = room.as_ptr().align_offset(64);
    let blob_at = &mut room[at..at + blob.len()];
    blob_at.copy_from_slice(&blob);
    let model = Model::parse(blob_at).expect("the builder writes what the specification says");
    let run = |isa| {
        let mut arena = vec![0; model.arena_bytes_with(isa)];
        let mut session = Session::with_isa(model, &mut arena, isa).expect("there is room for every kernel");
        session.input(0).iter_mut().zip(0..).for_each(|(code, i)| *code = i);
        session.run();
        [session.output(0).to_vec(), session.output(1).to_vec()]
    };
    assert_eq!(run(Isa::Portable), run(Isa::Reference));
}

#[test]
fn convolutions_of_every_format_give_the_bytes_of_the_reference() {
    let image = |c| Shape { h: 1, w: 2, c };
    for format in WeightFormat::ALL {
        for layout in [Layout::Plain, Layout::Panels, Layout::Words, Layout::Vectors] {
            for spec in [
                ConvSpec::dense(image(2), 17, 2, 1, format, layout),
                ConvSpec::dense(image(7), 3, 1, 2, format, layout),
                ConvSpec::depthwise(image(17), 2, 1, format, layout),
            ] {
                let problem = ConvProblem::new(spec);
                assert_eq!(problem.run(Isa::Portable), problem.run(Isa::Reference), "{problem:?}");
            }
        }
    }
}
