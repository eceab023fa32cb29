//! Blobs, whole and damaged.

use pare_runtime::format::{Add, HEADER_BYTES, Layout, Shape, WeightFormat, op};
use pare_runtime::{Detail, FormatError, Isa, Model, Session, SetupError};
use pare_tests::blob::{Builder, every_operator, in_a_row, seal};
use pare_tests::fuzz;
use pare_tests::problems::{ConvProblem, ConvSpec};

const ROW: Shape = Shape { h: 1, w: 1, c: 8 };

#[test]
fn a_network_of_every_operator_runs_alike_on_every_instruction_set() {
    let blob = every_operator();
    let model = Model::parse(&blob).expect("the builder writes what the specification says");
    let mut seen = vec![];
    for isa in Isa::available() {
        let mut arena = vec![0; model.arena_bytes_with(isa)];
        let mut session = Session::with_isa(model, &mut arena, isa).expect("there is room for every kernel");
        session.input(0).iter_mut().zip(0..).for_each(|(code, i)| *code = i);
        session.run();
        seen.push([session.output(0).to_vec(), session.output(1).to_vec()]);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    for row in seen[0][0].chunks(8) {
        let sum: i32 = row.iter().map(|&code| i32::from(code)).sum();
        assert!((sum - 256).abs() <= 8, "probabilities {row:?}");
    }
    assert!(seen[0][1].iter().any(|&code| code != seen[0][1][0]), "the joined maps are all alike");
}

#[test]
fn views_tell_what_was_written() {
    let blob = every_operator();
    let model = Model::parse(&blob).unwrap();
    assert_eq!(model.layers().len(), model.layers().count());
    assert_eq!(model.layer_name(3), "Ld");
    assert_eq!(model.layer_name(9999), "");
    assert_eq!(model.metadata(), b"{}");
    assert_eq!(model.inputs().map(|t| t.shape).collect::<Vec<_>>(), [Shape { h: 6, w: 6, c: 4 }]);
    assert_eq!(pare_runtime::arena_bytes(&blob), model.arena_bytes());
    assert_eq!(model.header().to_bytes(), blob[..HEADER_BYTES]);
}

#[test]
fn every_flipped_byte_is_noticed() {
    let blob = every_operator();
    for at in 0..blob.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = blob.clone();
            damaged[at] ^= flip;
            let error = Model::parse(&damaged).expect_err("a flipped byte went unnoticed");
            assert!(at < 16 || error == FormatError::Checksum, "byte {at}: {error}");
        }
    }
}

#[test]
fn every_flipped_byte_behind_a_right_checksum_is_refused_or_runs() {
    let blob = every_operator();
    let mut outcomes = [0; 3];
    for at in 0..blob.len() {
        for flip in [1, 2, 0x10, 0x80, 0xff] {
            let mut damaged = blob.clone();
            damaged[at] ^= flip;
            outcomes[fuzz::blob(&damaged) as usize] += 1;
        }
    }
    // Both happen often, or the deep checks were never met.
    let [refused, _too_large, ran] = outcomes;
    assert!(refused > 1000 && ran > 1000, "refused, too large, ran: {outcomes:?}");
}

#[test]
fn every_truncation_is_refused() {
    let blob = every_operator();
    for len in 0..blob.len() {
        assert!(Model::parse(&blob[..len]).is_err(), "{len} bytes passed");
        // With the length and checksum of the rest made right, what lacks may be padding alone.
        fuzz::blob(&blob[..len]);
    }
}

#[test]
fn a_stage_gives_the_bytes_of_its_layers_in_less_memory() {
    let run = |blob: &[u8], isa: Isa| {
        let model = Model::parse(blob).unwrap();
        let mut arena = vec![0x55; model.arena_bytes_with(isa)];
        let mut session = Session::with_isa(model, &mut arena, isa).unwrap();
        session.input(0).iter_mut().zip((0..=255u8).cycle()).for_each(|(code, i)| *code = i.wrapping_mul(37));
        session.run();
        session.output(0).to_vec()
    };
    let whole = in_a_row(None);
    let expected = run(&whole, Isa::Reference);
    assert!(expected.iter().any(|&code| code != expected[0]));
    for rows in [2, 4, 6, 8] {
        let staged = in_a_row(Some(rows));
        assert!(Isa::available().all(|isa| run(&staged, isa) == expected), "in bands of {rows} rows");
        let [whole, staged] = [&whole, &staged].map(|blob| Model::parse(blob).unwrap());
        assert!(staged.arena_bytes() < whole.arena_bytes());
        assert_eq!((staged.layers().len(), staged.layer_name(2)), (3, "Lc"));
        assert_eq!([0, 1, 2, 3].map(|layer| staged.stage_of(layer)), [Some(0..3), Some(0..3), Some(0..3), None]);
    }
    // A band of the depthwise convolution would be half a row more than whole rows.
    assert_eq!(Model::parse(&in_a_row(Some(3))).map(|_| ()), Err(FormatError::Stage { layer: 0 }));
}

#[test]
fn a_damaged_stage_is_refused_or_runs() {
    let blob = in_a_row(Some(4));
    let mut outcomes = [0; 3];
    for at in 0..Model::parse(&blob).unwrap().header().names as usize {
        for flip in [1, 2, 3, 4, 8, 0x10, 0x40, 0x80, 0xff] {
            let mut damaged = blob.clone();
            damaged[at] ^= flip;
            outcomes[fuzz::blob(&damaged) as usize] += 1;
        }
    }
    let [refused, _too_large, ran] = outcomes;
    assert!(refused > 500 && ran > 200, "refused, too large, ran: {outcomes:?}");
}

#[test]
fn a_convolution_that_adds_does_so_on_its_second_operand_and_nowhere_else() {
    let add = Add { ma: 300, mb: 200, zero_a: 1, zero_b: 9, zero: 0, shift: 9, lo: 0, hi: 255 };
    let adding = |add| {
        let spec = ConvSpec::dense(ROW, 8, 1, 1, WeightFormat::Linear(8), Layout::Plain);
        ConvProblem::new(ConvSpec { residual: Some(add), ..spec })
    };
    let parsed = |tensors: &dyn Fn(&mut Builder) -> [u16; 3], add| {
        let mut b = Builder::default();
        let [input, residual, sum] = tensors(&mut b);
        (b.inputs, b.outputs) = (vec![input, residual], vec![sum]);
        b.conv_into(sum, &[input, residual], &adding(add));
        Model::parse(&b.finish()).map(|_| ())
    };
    let on_second = |b: &mut Builder| {
        let (input, residual) = (b.tensor(ROW, 0), b.tensor(ROW, 1));
        [input, residual, b.tensor_on(residual, ROW, 0)]
    };
    assert_eq!(parsed(&on_second, add), Ok(()));
    for bad in [Add { shift: 0, ..add }, Add { shift: 32, ..add }, Add { lo: 9, hi: 8, ..add }] {
        assert_eq!(parsed(&on_second, bad), Err(FormatError::Layer(Detail::Residual)));
    }
    let smaller = |b: &mut Builder| {
        let (input, residual) = (b.tensor(ROW, 0), b.tensor(Shape { c: 4, ..ROW }, 1));
        [input, residual, b.tensor(ROW, 0)]
    };
    assert_eq!(parsed(&smaller, add), Err(FormatError::Layer(Detail::Residual)));
    let apart = |b: &mut Builder| [b.tensor(ROW, 0), b.tensor(ROW, 1), b.tensor(ROW, 0)];
    let on_both = |b: &mut Builder| {
        let input = b.tensor(ROW, 0);
        [input, b.tensor_on(input, ROW, 1), b.tensor_on(input, ROW, 0)]
    };
    for tensors in [&apart as &dyn Fn(&mut Builder) -> [u16; 3], &on_both] {
        assert_eq!(parsed(tensors, add), Err(FormatError::Arena { layer: 0 }));
    }
}

/// An Add of `a` and `b` into `sum`, whatever they share.
fn add(tensors: impl FnOnce(&mut Builder) -> [u16; 3]) -> Vec<u8> {
    let mut b = Builder::default();
    let [first, second, sum] = tensors(&mut b);
    (b.inputs, b.outputs) = (vec![first, second], vec![sum]);
    let fields = [&1i32.to_le_bytes()[..], &2i32.to_le_bytes(), &[1, 0, 255]].concat();
    b.layer(op::ADD, &[first, second], sum, &fields);
    b.finish()
}

#[test]
fn an_add_may_overwrite_its_first_operand_and_no_other() {
    let apart = add(|b| [b.tensor(ROW, 0), b.tensor(ROW, 0), b.tensor(ROW, 0)]);
    let on_first = add(|b| {
        let first = b.tensor(ROW, 0);
        [first, b.tensor(ROW, 0), b.tensor_on(first, ROW, 0)]
    });
    for blob in [apart, on_first] {
        let model = Model::parse(&blob).unwrap();
        let mut arena = vec![0; model.arena_bytes()];
        let mut session = Session::new(model, &mut arena).unwrap();
        session.input(0).copy_from_slice(&[0, 1, 2, 3, 100, 255, 7, 9]);
        session.input(1).copy_from_slice(&[0, 0, 1, 1, 100, 255, 0, 0]);
        session.run();
        assert_eq!(session.output(0), [0, 1, 2, 3, 150, 255, 4, 5]);
    }
    let on_second = add(|b| {
        let (first, second) = (b.tensor(ROW, 0), b.tensor(ROW, 0));
        [first, second, b.tensor_on(second, ROW, 0)]
    });
    let doubled = add(|b| {
        let first = b.tensor(ROW, 0);
        [first, first, b.tensor_on(first, ROW, 0)]
    });
    for blob in [on_second, doubled] {
        assert_eq!(Model::parse(&blob).unwrap_err(), FormatError::Arena { layer: 0 });
    }
}

#[test]
fn resizes_pick_and_mix_as_their_tables_say() {
    let resize = |op: u8, entries: &[[u16; 3]; 2], width: usize| {
        let mut b = Builder::default();
        let shape = |w| Shape { h: 1, w, c: 2 };
        let (input, output) = (b.tensor(shape(3), 0), b.tensor(shape(2), 0));
        (b.inputs, b.outputs) = (vec![input], vec![output]);
        // One row, which is row 0 whatever the entry's width; then two columns.
        b.aux = vec![0; 12];
        b.aux.extend(entries.iter().flat_map(|entry| &entry[..width]).flat_map(|v| v.to_le_bytes()));
        b.layer(op, &[input], output, &[0u32.to_le_bytes(), 12u32.to_le_bytes()].concat());
        let blob = b.finish();
        let model = Model::parse(&blob)?;
        let run = |isa| {
            let mut arena = vec![0; model.arena_bytes_with(isa)];
            let mut session = Session::with_isa(model, &mut arena, isa).unwrap();
            session.input(0).copy_from_slice(&[10, 110, 20, 120, 31, 255]);
            session.run();
            session.output(0).to_vec()
        };
        assert!(Isa::available().all(|isa| run(isa) == run(Isa::Reference)));
        Ok(run(Isa::Reference))
    };
    let nearest = [[2, 0, 0], [0, 0, 0]];
    assert_eq!(resize(op::RESIZE_NEAREST, &nearest, 1), Ok(vec![31, 255, 10, 110]));
    // Halfway between 20 and 31 rounds up; all of the second is the second.
    let mixed = [[1, 2, 128], [0, 1, 256]];
    assert_eq!(resize(op::RESIZE_BILINEAR, &mixed, 3), Ok(vec![26, 188, 20, 120]));
    let outside = FormatError::Layer(Detail::ResizeTable);
    assert_eq!(resize(op::RESIZE_NEAREST, &[[3, 0, 0]; 2], 1), Err(outside));
    assert_eq!(resize(op::RESIZE_BILINEAR, &[[0, 3, 0]; 2], 3), Err(outside));
    assert_eq!(resize(op::RESIZE_BILINEAR, &[[0, 1, 257]; 2], 3), Err(outside));
}

#[test]
fn a_session_says_what_it_lacks() {
    let blob = every_operator();
    let model = Model::parse(&blob).unwrap();
    let need = model.arena_bytes();
    let small = Session::new(model, &mut vec![0; need - 1]).err();
    assert_eq!(small, Some(SetupError::Arena { need, have: need - 1 }));

    // The first layer's scratch moved onto the arena's end.
    let mut moved = blob.clone();
    let layers = model.header().layers as usize;
    moved[layers + 4..layers + 8].copy_from_slice(&(need as u32).to_le_bytes());
    seal(&mut moved);
    let model = Model::parse(&moved).unwrap();
    let error = Session::with_isa(model, &mut vec![0; need], Isa::Portable).err();
    assert_eq!(error, Some(SetupError::Scratch { layer: 0, isa: Isa::Portable }));
}

#[test]
fn missing_inputs_and_outputs_are_empty() {
    let blob = every_operator();
    let model = Model::parse(&blob).unwrap();
    let mut arena = vec![0; model.arena_bytes()];
    let mut session = Session::new(model, &mut arena).unwrap();
    assert!(session.input(1).is_empty() && session.output(2).is_empty());
    assert!(session.input_tensor(1).is_none() && session.output_tensor(0).is_some());
}
