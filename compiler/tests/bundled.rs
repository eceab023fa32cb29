//! The bundled model in the float oracle.

use pare::data::{self, MetricAccumulator, Split};
use pare::eval::Net;
use pare::models::bundled;

#[test]
fn the_card_tells_the_accuracy_of_the_graph() {
    let model = bundled();
    let set = data::open(&model.card.data).unwrap();
    let net = Net::float(&model.graph).unwrap();
    for (split, expected) in [(Split::Val, model.card.accuracy.val), (Split::Test, model.card.accuracy.test)] {
        let mut metric = MetricAccumulator::new(model.card.accuracy.metric, 10);
        let mut inputs = vec![0.0; set.split(split).len() * set.sample_len()];
        for (&index, input) in set.split(split).iter().zip(inputs.chunks_exact_mut(set.sample_len())) {
            set.read(index, &model.card.preprocessing, input);
        }
        let outputs = net.forward(&inputs, set.split(split).len()).unwrap();
        for (&index, output) in set.split(split).iter().zip(outputs.chunks_exact(10)) {
            metric.push(set.label(index), &[], output).unwrap();
        }
        let value = metric.finish().unwrap();
        println!("{split:?} {value}");
        // One sample may fall the other way when sums are taken in another order.
        assert!((value - expected).abs() < 0.0026, "{split:?}: {value} {expected}");
    }
}
