use pare::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let graph = passes::simplify(import::import(std::path::Path::new(&a[1])).unwrap()).unwrap();
    
    for n in &graph.nodes { println!("{} {} {:?}", n.name, n.op.name(), graph.value(n.output).shape); }
    let ds = data::open(&a[2].parse().unwrap()).unwrap();
    let scale: f32 = a[3].parse().unwrap();
    let input = graph.value(graph.inputs[0]).len(); let output = graph.value(graph.outputs[0]).len();
    let s = task::Samples::new(ds, data::Preprocessing { scale, mean: vec![] }, None, input, output).unwrap();
    let net = eval::Net::float(&graph).unwrap();
    let test = s.indices(data::Split::Test, None).unwrap();
    let t = Instant::now();
    println!("float {:?} {:?}", s.score_net(&net, test).unwrap(), t.elapsed());
    let t = Instant::now();
    let cal = s.spread(data::Split::Train, 1024).unwrap();
    let c = quant::calibrate(&graph, &cal, cal.len()/input, &quant::CalibrationConfig::with_seed(0)).unwrap();
    println!("calibrate {:?}", t.elapsed());
    for (w, a, r) in [(8,8,quant::Rounding::Nearest),(4,8,quant::Rounding::Nearest),(4,8,quant::Rounding::DataAware),(3,8,quant::Rounding::Nearest),(3,8,quant::Rounding::DataAware),(2,8,quant::Rounding::DataAware),(2,4,quant::Rounding::DataAware)] {
        let cfg = quant::QuantConfig { clip: quant::ClipMethod::Mse, rounding: r, bias_correction: quant::BiasCorrection::MeanInput };
        let bank = quant::CodeBank::new(&graph, &c, &cfg).unwrap();
        let p = policy::Policy::uniform(&graph, policy::WeightFormat::Linear(w), a, policy::EdgeLayers::EightBit);
        let t = Instant::now();
        let q = bank.quantize(&p).unwrap();
        let tq = t.elapsed();
        let t = Instant::now();
        let plan = lower::lower(&q, &lower::LowerConfig { layout: pare_runtime::format::Layout::X86 }).unwrap();
        let blob = emit::emit(&plan, "{}").unwrap();
        let tl = t.elapsed();
        let bytes = board::AlignedBytes::from(&blob.bytes[..]);
        let fq = eval::Net::fake_quantized(&q).unwrap();
        let t = Instant::now();
        let f = s.score_blob(&bytes, pare_runtime::Isa::best(), test).unwrap();
        println!("w{w}a{a} {r:?} blob {} B arena {} (lb {}) acc {:?} in {:?}; fake {:?}; quantize {tq:?} lower {tl:?}", blob.bytes.len(), plan.arena_bytes, plan.arena_lower_bound, f, t.elapsed(), s.score_net(&fq, test).unwrap());
        let m = pare_runtime::Model::parse(&bytes).unwrap();
        let codes = task::encode(&m, &cal[..input]);
        let tm = board::host::time(&bytes, pare_runtime::Isa::best(), &codes, 100).unwrap();
        println!("  {} ns", board::host::quantile(&tm.total, 0.5));
    }
}
