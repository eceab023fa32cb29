//! How searches came along: the best policy so far over the policies tried, a line a search.

use super::MethodRow;
use super::charts::number;
use super::svg::{Scale, Svg};

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 300.0;
/// Space for the names of lines.
const NAMES: f64 = 120.0;
/// Lines that have a look of their own.
const LOOKS: usize = 5;
/// What a name needs of the height.
const LINE: f64 = 14.0;

/// Lines of the methods that try policies one by one; empty where none did.
pub fn learning(methods: &[MethodRow], metric: &str) -> String {
    let curves: Vec<(&str, Vec<f64>)> = methods
        .iter()
        .filter(|method| method.tried.len() > 1)
        .map(|method| (method.name.as_str(), best_so_far(&method.tried)))
        .collect();
    let Some(most) = curves.iter().map(|(_, best)| best.len()).max() else { return String::new() };
    let mut svg = Svg::new(WIDTH, HEIGHT, &format!("{metric} of the best policy so far, by policies tried"));
    let all = || curves.iter().flat_map(|(_, best)| best.iter().copied());
    let x = Scale { domain: (1.0, most as f64), range: (60.0, WIDTH - NAMES) };
    let y = Scale::over(all(), (HEIGHT - 44.0, 24.0));
    for tick in y.ticks(5) {
        svg.line("grid", (x.range.0, y.at(tick)), (x.range.1, y.at(tick)));
        svg.text("tick", (x.range.0 - 8.0, y.at(tick) + 4.0), "end", &number(tick, &y));
    }
    for tick in x.ticks(8) {
        svg.text("tick", (x.at(tick), HEIGHT - 26.0), "middle", &number(tick, &x));
    }
    svg.text("axis", (x.range.1, HEIGHT - 8.0), "end", "policies tried");
    svg.text("axis", (12.0, 14.0), "start", &format!("{metric} on training samples"));
    // Names from the top, each below the one before.
    let mut ends: Vec<(f64, usize)> =
        curves.iter().enumerate().map(|(i, (_, best))| (y.at(best[best.len() - 1]), i)).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = f64::NEG_INFINITY;
    for (end, i) in ends {
        let (name, best) = &curves[i];
        let points = best.iter().enumerate().map(|(n, &value)| (x.at(n as f64 + 1.0), y.at(value)));
        svg.polyline(&format!("curve look{}", i % LOOKS), &points.collect::<Vec<_>>());
        below = (below + LINE).max(end + 4.0);
        svg.text(&format!("value ink{}", i % LOOKS), (x.range.1 + 8.0, below), "start", name);
    }
    svg.finish()
}

fn best_so_far(tried: &[f64]) -> Vec<f64> {
    let mut best = f64::NEG_INFINITY;
    let so_far = |value: &f64| {
        best = best.max(*value);
        best
    };
    tried.iter().map(so_far).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn lines_rise_and_methods_that_tried_nothing_have_none() {
        assert_eq!(best_so_far(&[0.2, 0.1, 0.5, 0.4]), [0.2, 0.2, 0.5, 0.5]);
        let method = |name: &str, tried: &[f64]| MethodRow {
            name: name.into(),
            accuracy: 0.5,
            blob_bytes: Bytes(1),
            latency: None,
            choices: vec!["w2a8".into()],
            tried: tried.to_vec(),
        };
        assert_eq!(learning(&[method("exact", &[])], "top1"), "");
        let drawn = learning(&[method("haq", &[0.2, 0.1, 0.5]), method("exact", &[])], "top1");
        assert_eq!((drawn.matches("<polyline").count(), drawn.matches("haq").count()), (1, 1), "{drawn}");
    }
}
