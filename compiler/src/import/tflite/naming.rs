//! Names that a person can type, out of what converters leave in a file.
//!
//! A tensor's name is a list of paths of all that was fused into it, as in
//! `model/activation/Relu;model/batch_normalization/FusedBatchNormV3;model/conv2d/BiasAdd`. The layer
//! is the path's component that speaks of the operator: here `conv2d`.

/// Words by which a layer's name betrays its operator; empty where the operator's own name serves.
fn keywords(op: &str) -> &'static [&'static str] {
    match op {
        "CONV_2D" => &["conv", "dense", "fc"],
        "DEPTHWISE_CONV_2D" => &["depthwise", "separable", "dw", "conv"],
        "FULLY_CONNECTED" => &["dense", "fc", "linear", "logits", "matmul"],
        "ADD" => &["add"],
        "CONCATENATION" => &["concat"],
        "AVERAGE_POOL_2D" | "MAX_POOL_2D" | "MEAN" => &["pool", "mean"],
        "RESHAPE" => &["flatten", "reshape"],
        "SOFTMAX" => &["softmax"],
        "PAD" | "PADV2" => &["pad"],
        _ => &[],
    }
}

/// A name for the operator `op` whose output tensor is called `output`.
pub(super) fn layer_name(op: &str, output: &str) -> String {
    let speaks = |component: &&str| {
        let component = component.to_ascii_lowercase();
        keywords(op).iter().any(|word| component.contains(word))
    };
    let components = output.split(';').flat_map(|path| {
        let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
        // The first component is the model's own name.
        let layers = components.get(1..).filter(|rest| !rest.is_empty()).map(<[&str]>::to_vec);
        layers.unwrap_or(components)
    });
    let mut components = components;
    if let Some(component) = components.find(speaks) {
        return component.to_owned();
    }
    let last = output.split(';').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let is_generic = last.is_empty() || last.starts_with("Identity") || last.starts_with("StatefulPartitionedCall");
    if is_generic { op.to_ascii_lowercase() } else { last.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::layer_name;

    #[test]
    fn the_layer_is_found_in_the_paths() {
        let fused = "model/activation/Relu;model/batch_normalization/FusedBatchNormV3;model/conv2d/BiasAdd";
        assert_eq!(layer_name("CONV_2D", fused), "conv2d");
        assert_eq!(layer_name("ADD", "model/activation_2/Relu;model/add/add"), "add");
        assert_eq!(layer_name("SOFTMAX", "Identity"), "softmax");
        assert_eq!(layer_name("LOGISTIC", "net/block/gate"), "gate");
        assert_eq!(layer_name("FULLY_CONNECTED", ""), "fully_connected");
    }
}
