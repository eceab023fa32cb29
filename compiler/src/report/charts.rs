//! The plots of the page, one function each, from the report's data to an SVG element.

use crate::units::{Bytes, Ticks};

use super::svg::{Scale, Svg, shorten};
use super::{FrontPoint, LayerRow, MemoryMap, PointKind, SensitivityMap};

/// Width of a plot that fills the page.
const WIDE: f64 = 1040.0;
/// Width of a plot that shares a row with another.
const HALF: f64 = 500.0;
/// Height of a row of bars.
const ROW: f64 = 22.0;
/// Space for the names of layers.
const NAMES: f64 = 190.0;
/// Characters that fit there.
const NAME_LENGTH: usize = 26;

/// Accuracy over blob size.
pub fn accuracy_by_size(points: &[FrontPoint], metric: &str) -> String {
    let x = |point: &FrontPoint| Some(point.blob_bytes.0 as f64 / 1024.0);
    scatter(points, metric, "blob, KiB", x, |point| point.blob_bytes.to_string())
}

/// Accuracy over latency; empty where no point has one.
pub fn accuracy_by_latency(points: &[FrontPoint], metric: &str) -> String {
    let Some(first) = points.iter().find_map(|point| point.latency) else { return String::new() };
    let (divisor, unit) = readable(points.iter().filter_map(|point| point.latency), first);
    let x = |point: &FrontPoint| point.latency.map(|ticks| ticks.value / divisor);
    let tip = |point: &FrontPoint| point.latency.map_or_else(String::new, |ticks| ticks.to_string());
    scatter(points, metric, &format!("latency, {unit}"), x, tip)
}

fn scatter(
    points: &[FrontPoint],
    metric: &str,
    x_label: &str,
    x_of: impl Fn(&FrontPoint) -> Option<f64>,
    tip: impl Fn(&FrontPoint) -> String,
) -> String {
    const HEIGHT: f64 = 320.0;
    let mut svg = Svg::new(HALF, HEIGHT, &format!("{metric} over {x_label}"));
    let placed: Vec<(&FrontPoint, f64)> = points.iter().filter_map(|point| Some((point, x_of(point)?))).collect();
    let x = Scale::over(placed.iter().map(|(_, x)| *x), (52.0, HALF - 16.0));
    let y = Scale::over(placed.iter().map(|(point, _)| point.accuracy), (HEIGHT - 44.0, 24.0));
    for tick in y.ticks(5) {
        svg.line("grid", (x.range.0, y.at(tick)), (x.range.1, y.at(tick)));
        svg.text("tick", (x.range.0 - 8.0, y.at(tick) + 4.0), "end", &number(tick, &y));
    }
    for tick in x.ticks(6) {
        svg.line("grid", (x.at(tick), y.range.0), (x.at(tick), y.range.1));
        svg.text("tick", (x.at(tick), y.range.0 + 18.0), "middle", &number(tick, &x));
    }
    svg.text("axis", (x.range.1, HEIGHT - 8.0), "end", x_label);
    svg.text("axis", (x.range.0 - 40.0, 14.0), "start", metric);

    let at = |(point, px): &(&FrontPoint, f64)| (x.at(*px), y.at(point.accuracy));
    let mut hull: Vec<_> = placed.iter().filter(|(point, _)| point.kind != PointKind::Uniform).collect();
    hull.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.accuracy.total_cmp(&b.0.accuracy)));
    // The line joins what no cheaper point equals.
    let mut best = f64::NEG_INFINITY;
    hull.retain(|(point, _)| {
        point.accuracy > best && {
            best = point.accuracy;
            true
        }
    });
    svg.polyline("front-line", &hull.iter().map(|p| at(p)).collect::<Vec<_>>());
    let mut ordered: Vec<_> = placed.iter().collect();
    ordered.sort_by_key(|(point, _)| point.kind);
    for placed in ordered {
        let (point, (px, py)) = (placed.0, at(placed));
        let tip = format!("{}: {} {:.4}, {}", point.name, metric, point.accuracy, tip(point));
        match point.kind {
            PointKind::Uniform => {
                svg.dot("uniform", (px, py), 4.5, &tip);
                let (anchor, side) = if px > HALF - 70.0 { ("end", -8.0) } else { ("start", 8.0) };
                svg.text("note", (px + side, py + 12.0), anchor, &point.name);
            }
            PointKind::Front => svg.dot("front", (px, py), 4.5, &tip),
            PointKind::Chosen => {
                svg.dot("halo", (px, py), 11.0, &tip);
                svg.dot("chosen", (px, py), 6.0, &tip);
                let (anchor, side) = if px > HALF * 0.7 { ("end", -14.0) } else { ("start", 14.0) };
                svg.text("note strong", (px + side, py - 9.0), anchor, "chosen");
            }
        }
    }
    svg.finish()
}

/// Bits of weights and of activations, a pair of bars a layer.
pub fn bits(layers: &[LayerRow]) -> String {
    let shown: Vec<&LayerRow> = layers.iter().filter(|layer| layer.weight_bits.is_some()).collect();
    let height = 30.0 + 2.0 * ROW * shown.len() as f64 * 0.8;
    let mut svg = Svg::new(WIDE, height, "bits of weights and activations, by layer");
    let x = Scale { domain: (0.0, 8.0), range: (NAMES, WIDE - 90.0) };
    for tick in 0..=8 {
        let at = x.at(f64::from(tick));
        svg.line("grid", (at, 20.0), (at, height - 4.0));
        svg.text("tick", (at, 13.0), "middle", &tick.to_string());
    }
    for (i, layer) in shown.iter().enumerate() {
        let top = 26.0 + i as f64 * ROW * 1.6;
        let weights = layer.weight_bits.unwrap_or(0.0);
        let format = layer.weights.as_deref().unwrap_or_default();
        name(&mut svg, &layer.name, top + 17.0);
        let tip = format!("{}: weights {format}, {weights:.2} bits, {}", layer.name, layer.weight_bytes);
        svg.rect("weights", (x.range.0, top), (x.at(weights) - x.range.0, 13.0), 1.0, &tip);
        svg.text("value", (x.at(weights) + 6.0, top + 11.0), "start", format);
        let width = f64::from(layer.activation_bits);
        let tip = format!("{}: output of {} bits", layer.name, layer.activation_bits);
        svg.rect("activations", (x.range.0, top + 15.0), (x.at(width) - x.range.0, 9.0), 1.0, &tip);
        svg.text("value", (x.at(width) + 6.0, top + 24.0), "start", &format!("a{}", layer.activation_bits));
    }
    svg.finish()
}

/// Predicted and measured time, a pair of bars a node; empty where neither is known.
pub fn times(layers: &[LayerRow]) -> String {
    let shown: Vec<&LayerRow> =
        layers.iter().filter(|layer| layer.predicted.is_some() || layer.measured.is_some()).collect();
    let all = || shown.iter().flat_map(|layer| [layer.predicted, layer.measured]).flatten();
    let Some(first) = all().next() else { return String::new() };
    let (divisor, unit) = readable(all(), first);
    let height = 46.0 + 1.6 * ROW * shown.len() as f64;
    let mut svg = Svg::new(WIDE, height, "predicted and measured time, by node");
    let x = Scale::from_zero(all().map(|ticks| ticks.value / divisor), (NAMES, WIDE - 90.0));
    for tick in x.ticks(8) {
        svg.line("grid", (x.at(tick), 20.0), (x.at(tick), height - 24.0));
        svg.text("tick", (x.at(tick), 13.0), "middle", &number(tick, &x));
    }
    svg.text("axis", (x.range.1, height - 8.0), "end", &format!("time, {unit}"));
    for (i, layer) in shown.iter().enumerate() {
        let top = 26.0 + i as f64 * ROW * 1.6;
        name(&mut svg, &layer.name, top + 17.0);
        for (class, ticks, what, y) in
            [("predicted", layer.predicted, "predicted", top), ("measured", layer.measured, "measured", top + 13.0)]
        {
            let Some(ticks) = ticks else { continue };
            let length = x.at(ticks.value / divisor) - x.range.0;
            let tip = format!("{} ({}): {what} {ticks}", layer.name, layer.kernel);
            svg.rect(class, (x.range.0, y), (length.max(1.0), 11.0), 1.0, &tip);
        }
        if let (Some(predicted), Some(measured)) = (layer.predicted, layer.measured) {
            let error = 100.0 * (predicted.value / measured.value - 1.0);
            let end = x.at(predicted.value.max(measured.value) / divisor);
            svg.text("value", (end + 8.0, top + 17.0), "start", &format!("{error:+.0} %"));
        }
    }
    svg.finish()
}

/// Tensors as rectangles: time to the right, addresses upwards.
pub fn memory(map: &MemoryMap) -> String {
    const HEIGHT: f64 = 360.0;
    let mut svg = Svg::new(WIDE, HEIGHT, "tensors in the arena over time");
    let steps = map.steps.len().max(1);
    let x = Scale { domain: (0.0, steps as f64), range: (64.0, WIDE - 16.0) };
    let y = Scale { domain: (0.0, map.arena.0.max(1) as f64 / 1024.0), range: (HEIGHT - 92.0, 24.0) };
    for tick in y.ticks(5) {
        svg.line("grid", (x.range.0, y.at(tick)), (x.range.1, y.at(tick)));
        svg.text("tick", (x.range.0 - 8.0, y.at(tick) + 4.0), "end", &number(tick, &y));
    }
    svg.text("axis", (12.0, 14.0), "start", "address, KiB");
    svg.line("limit", (x.range.0, y.range.1), (x.range.1, y.range.1));
    svg.text("note", (x.range.1, y.range.1 - 6.0), "end", &format!("arena {}", map.arena));
    for (i, tensor) in map.tensors.iter().enumerate() {
        let (left, right) = (x.at(tensor.first as f64), x.at(tensor.last as f64 + 1.0));
        let (low, high) = (tensor.offset as f64 / 1024.0, (tensor.offset + tensor.bytes) as f64 / 1024.0);
        let (top, bottom) = (y.at(high), y.at(low));
        let last = map.steps.get(tensor.last).map_or("", String::as_str);
        let first = map.steps.get(tensor.first).map_or("", String::as_str);
        let size = Bytes(tensor.bytes);
        let tip = format!("{}: {size} at {}, from {first} to {last}", tensor.name, tensor.offset);
        let (place, extent) = ((left + 1.0, top + 1.0), (right - left - 2.0, (bottom - top - 2.0).max(1.0)));
        svg.rect(["tensor", "tensor other"][i % 2], place, extent, 1.0, &tip);
        let fits = ((right - left - 8.0) / 6.6).max(0.0) as usize;
        if bottom - top > 14.0 && fits >= 4 {
            let middle = ((left + right) / 2.0, (top + bottom) / 2.0 + 4.0);
            svg.text("inside", middle, "middle", &shorten(&tensor.name, fits));
        }
    }
    // Names of steps as far as they fit, slanted by stepping down.
    let room = (x.range.1 - x.range.0) / steps as f64;
    let every = (58.0 / (3.0 * room)).ceil().max(1.0) as usize;
    for (i, step) in map.steps.iter().enumerate().step_by(every) {
        let down = 18.0 + 15.0 * ((i / every) % 3) as f64;
        let at = x.at(i as f64 + 0.5);
        svg.line("grid", (at, y.range.0), (at, y.range.0 + down - 10.0));
        svg.text("tick", (at, y.range.0 + down), "middle", &shorten(step, 14));
    }
    svg.text("axis", (x.range.1, HEIGHT - 8.0), "end", "step");
    svg.finish()
}

/// Layers down, choices across, the darker the more loss; the chosen one framed.
pub fn sensitivity(map: &SensitivityMap) -> String {
    let height = 34.0 + (ROW + 2.0) * map.rows.len() as f64;
    let mut svg = Svg::new(WIDE, height, "loss increase by layer and choice");
    let cell = ((WIDE - NAMES - 16.0) / map.choices.len().max(1) as f64).min(110.0);
    let known = || map.rows.iter().flat_map(|row| &row.increases).flatten().copied().filter(|v| *v > 0.0);
    let (low, high) = known().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    // Increases span decades: shades follow the logarithm, over four decades at most.
    let low = low.max(high * 1e-4);
    let shade = |v: f64| if v <= low { 0.06 } else { 0.06 + 0.86 * (v / low).ln() / (high / low).ln().max(1e-9) };
    for (j, choice) in map.choices.iter().enumerate() {
        let middle = NAMES + (j as f64 + 0.5) * cell;
        svg.text("tick", (middle, 18.0), "middle", &shorten(choice, (cell / 7.0) as usize));
    }
    for (i, row) in map.rows.iter().enumerate() {
        let top = 26.0 + i as f64 * (ROW + 2.0);
        name(&mut svg, &row.layer, top + 15.0);
        for (j, increase) in row.increases.iter().enumerate().take(map.choices.len()) {
            let left = NAMES + j as f64 * cell;
            let Some(increase) = increase else { continue };
            let opacity = shade(*increase).clamp(0.0, 0.92);
            let tip = format!("{} at {}: loss + {increase:.5}", row.layer, map.choices[j]);
            svg.rect("heat", (left + 1.0, top), (cell - 2.0, ROW), opacity, &tip);
            if cell > 44.0 {
                let class = if opacity > 0.55 { "inside strong" } else { "cell" };
                svg.text(class, (left + cell / 2.0, top + 15.0), "middle", &small(*increase));
            }
            if row.chosen == Some(j) {
                svg.rect("frame", (left + 1.0, top), (cell - 2.0, ROW), 0.0, &tip);
            }
        }
    }
    svg.finish()
}

fn name(svg: &mut Svg, name: &str, y: f64) {
    svg.text("name", (NAMES - 10.0, y), "end", &shorten(name, NAME_LENGTH));
}

/// What to divide ticks by so that the largest reads well, and the unit then.
fn readable(all: impl Iterator<Item = Ticks>, first: Ticks) -> (f64, String) {
    let most = all.map(|ticks| ticks.value).fold(0.0, f64::max);
    let decade = |v: f64| [1e9, 1e6, 1e3].into_iter().find(|d| v >= *d).unwrap_or(1.0);
    let divisor = decade(most);
    let unit = match (first.unit, divisor as u64) {
        (crate::units::TickUnit::Nanoseconds, 1_000_000_000) => "s".to_owned(),
        (crate::units::TickUnit::Nanoseconds, 1_000_000) => "ms".to_owned(),
        (crate::units::TickUnit::Nanoseconds, 1_000) => "µs".to_owned(),
        (unit, 1_000_000_000) => format!("G {unit}"),
        (unit, 1_000_000) => format!("M {unit}"),
        (unit, 1_000) => format!("K {unit}"),
        (unit, _) => unit.to_string(),
    };
    (divisor, unit)
}

/// A tick's number with as many decimals as its scale needs.
fn number(value: f64, scale: &Scale) -> String {
    let span = (scale.domain.1 - scale.domain.0).abs();
    let decimals = (1.0 - span.log10()).ceil().clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn small(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 0.001 => format!("{v:.0e}"),
        v if v < 0.1 => format!("{v:.3}"),
        v => format!("{v:.2}"),
    }
}
