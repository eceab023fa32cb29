use pare_runtime::format::LayerOp;
use pare_runtime::kernels::ConvKernel;
use pare_runtime::{Isa, Model};
use std::hint::black_box;
use std::time::Instant;
fn main() {
    let bytes = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let mut room = vec![0u8; bytes.len() + 64];
    let at = room.as_ptr().align_offset(64);
    room[at..at + bytes.len()].copy_from_slice(&bytes);
    let model = Model::parse(&room[at..at + bytes.len()]).unwrap();
    let isa = Isa::best();
    for (i, layer) in model.layers().enumerate() {
        let LayerOp::Conv(conv) = &layer.op else { continue };
        let time = |f: &mut dyn FnMut()| {
            let mut best = f64::MAX;
            for _ in 0..50 {
                let t = Instant::now();
                for _ in 0..1000 { f(); }
                best = best.min(t.elapsed().as_nanos() as f64 / 1000.0);
            }
            best
        };
        let mut plain = *conv;
        plain.residual = None;
        let a = time(&mut || { black_box(ConvKernel::choose(isa, black_box(&plain))); });
        let b = time(&mut || { black_box(ConvKernel::choose(isa, black_box(conv))); });
        let c = time(&mut || { black_box(plain.part(black_box(2..4))); });
        let run = |conv: &pare_runtime::format::Conv<'_>| {
            let kernel = ConvKernel::choose(isa, conv);
            let input = vec![0; conv.input.len()];
            let mut output = vec![0; conv.output.len()];
            let mut scratch = vec![0; kernel.scratch_bytes];
            time(&mut || { kernel.run(black_box(conv), &input, &mut output, &mut scratch); })
        };
        let whole = run(&plain);
        let rows = conv.output.h;
        let half = plain.part(rows / 4..rows / 2).conv;
        let quarter = run(&half);
        println!("{i} {} choose {a:.0} choose add {b:.0} part {c:.0} whole {whole:.0} quarter {quarter:.0} (x4 {:.0})", model.layer_name(i), quarter * 4.0);
    }
}
