//! The plots of the page by layer and by step, one function each, from the report's data to an SVG element.

use crate::units::{Bytes, Ticks};

use super::svg::{Scale, Svg, shorten};
use super::{LayerRow, MemoryMap, MemoryRole, SensitivityMap, TensorLife};

/// Width of a plot that fills the page.
const WIDE: f64 = 1040.0;
/// Height of a row of bars.
const ROW: f64 = 22.0;
/// Space for the names of layers.
const NAMES: f64 = 190.0;
/// Characters that fit there.
const NAME_LENGTH: usize = 26;

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
            // Adding zero turns a rounded -0 into 0.
            let error = (100.0 * (predicted.value / measured.value - 1.0)).round() + 0.0;
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
        let (class, text) = match tensor.role {
            MemoryRole::Scratch => ("scratch", "cell"),
            MemoryRole::Tensor => (["tensor", "tensor other"][i % 2], ["inside", "inside other"][i % 2]),
        };
        svg.rect(class, place, extent, 1.0, &tip);
        let lines = label(tensor, &size.to_string(), right - left - 6.0, bottom - top - 4.0);
        let middle = (top + bottom) / 2.0 + 4.0 - 6.5 * (lines.len().saturating_sub(1)) as f64;
        for (line, y) in lines.iter().zip((0..).map(|i| middle + 13.0 * f64::from(i))) {
            svg.text(text, ((left + right) / 2.0, y), "middle", line);
        }
    }
    // Names of steps as far as they fit, slanted by stepping down.
    let room = (x.range.1 - x.range.0) / steps as f64;
    let every = (58.0 / (3.0 * room)).ceil().max(1.0) as usize;
    for (i, step) in map.steps.iter().enumerate().step_by(every) {
        let down = 18.0 + 15.0 * ((i / every) % 3) as f64;
        let at = x.at(i as f64 + 0.5);
        svg.line("grid", (at, y.range.0), (at, y.range.0 + down - 10.0));
        svg.text("tick", (at, y.range.0 + down), "middle", &keep_end(step, (2.6 * every as f64 * room / 6.2) as usize));
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

/// What is written into a block of memory: as many whole lines as there is room for, at best the names of
/// all tensors that take turns in it, an arrow between them, then the size. A name that is too long keeps
/// its end, which tells layers apart; nothing is written where not even that is readable.
fn label(block: &TensorLife, size: &str, width: f64, height: f64) -> Vec<String> {
    const LETTER: f64 = 6.2;
    const LINE: f64 = 13.0;
    const READABLE: usize = 5;
    let most = (width / LETTER).max(0.0) as usize;
    let lines = (height / LINE).max(0.0) as usize;
    let names: Vec<&str> = match block.role {
        MemoryRole::Tensor => block.name.split(", ").collect(),
        // The step below says whose.
        MemoryRole::Scratch => vec!["scratch"],
    };
    let turns = names.join(" → ");
    let mut wanted = match names.as_slice() {
        _ if turns.chars().count() <= most => vec![turns],
        [first, rest @ ..] if lines > rest.len() => {
            let onto = |name: &&str| keep_end(&format!("→ {name}"), most);
            std::iter::once(keep_end(first, most)).chain(rest.iter().map(onto)).collect()
        }
        _ => vec![keep_end(&turns, most)],
    };
    if most < READABLE && wanted.iter().any(|line| line.starts_with('…')) {
        return Vec::new();
    }
    if size.len() <= most {
        wanted.push(size.to_owned());
    }
    wanted.truncate(lines);
    wanted
}

/// The text, or its end behind an ellipsis where it is longer than `most` characters.
fn keep_end(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let tail: String = text.chars().skip(length - most.saturating_sub(1).min(length)).collect();
    format!("…{tail}")
}

fn name(svg: &mut Svg, name: &str, y: f64) {
    svg.text("name", (NAMES - 10.0, y), "end", &shorten(name, NAME_LENGTH));
}

/// What to divide ticks by so that the largest reads well, and the unit then.
pub(super) fn readable(all: impl Iterator<Item = Ticks>, first: Ticks) -> (f64, String) {
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
pub(super) fn number(value: f64, scale: &Scale) -> String {
    let span = (scale.domain.1 - scale.domain.0).abs();
    let decimals = (2.0 - span.log10()).ceil().clamp(0.0, 6.0) as usize;
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
