//! Accuracy over a cost: the plots of the page, and `front.svg` as a picture of its own.

use crate::units::Ticks;

use super::charts::{number, readable};
use super::svg::{Scale, Svg};
use super::{FrontPoint, Goal, PointKind, Report};

/// How far below the float network a policy is still of interest, in hundredths of the metric's scale.
const REACH: f64 = 12.0;
/// A letter's width and a line's height.
const LETTER: (f64, f64) = (6.4, 13.0);

/// Where a plot lies in its drawing.
#[derive(Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// What is plotted over.
struct Axis<'a> {
    label: String,
    of: &'a dyn Fn(&FrontPoint) -> Option<f64>,
    tip: &'a dyn Fn(&FrontPoint) -> String,
    bound: Option<f64>,
}

/// Accuracy over blob size.
pub fn by_size(report: &Report) -> String {
    let (mut svg, area) = half(&format!("{} over blob size", report.judged_by));
    size_plot(&mut svg, area, report);
    svg.finish()
}

/// Accuracy over latency; empty where no point has one.
pub fn by_latency(report: &Report) -> String {
    let points = &report.front;
    let Some(first) = points.iter().find_map(|point| point.latency) else { return String::new() };
    let (divisor, unit) = readable(points.iter().filter_map(|point| point.latency), first);
    let bound = report.goal.and_then(|goal| goal.latency).map(|ticks| ticks.value / divisor);
    let of = |point: &FrontPoint| point.latency.map(|ticks| ticks.value / divisor);
    let tip = |point: &FrontPoint| point.latency.map_or_else(String::new, |ticks: Ticks| ticks.to_string());
    let (mut svg, area) = half(&format!("{} over latency", report.judged_by));
    plot(&mut svg, area, report, &Axis { label: format!("latency, {unit}"), of: &of, tip: &tip, bound });
    svg.finish()
}

/// Accuracy over blob size with title and legend, as a whole file.
pub fn figure(report: &Report) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 440.0;
    let title = format!("{}: {} by blob size", report.model, report.judged_by);
    let mut svg = Svg::new(WIDTH, HEIGHT, &title);
    svg.rect("card", (0.0, 0.0), (WIDTH, HEIGHT), 1.0, &title);
    svg.text("title", (24.0, 30.0), "start", &title);
    let mut left = 24.0;
    for (class, name) in legend(report) {
        svg.dot(class, (left + 5.0, 48.0), 4.5, name);
        svg.text("tick", (left + 15.0, 52.0), "start", name);
        left += 38.0 + name.len() as f64 * LETTER.0;
    }
    size_plot(&mut svg, Area { left: 64.0, right: WIDTH - 24.0, top: 92.0, bottom: HEIGHT - 48.0 }, report);
    svg.finish_file(super::html::PLOT_STYLE)
}

/// What the dots are, by class.
pub(super) fn legend(report: &Report) -> Vec<(&'static str, &'static str)> {
    let beside = report.front.iter().any(|point| point.kind == PointKind::Beside);
    let beside = beside.then_some((class(PointKind::Beside), "found by others"));
    let first = [(class(PointKind::Chosen), "chosen"), (class(PointKind::Front), "found by the search")];
    first.into_iter().chain(beside).chain([(class(PointKind::Uniform), "one format for all layers")]).collect()
}

fn half(label: &str) -> (Svg, Area) {
    (Svg::new(500.0, 320.0, label), Area { left: 52.0, right: 484.0, top: 28.0, bottom: 276.0 })
}

fn size_plot(svg: &mut Svg, area: Area, report: &Report) {
    let kib = |bytes: crate::units::Bytes| bytes.0 as f64 / 1024.0;
    let axis = Axis {
        label: "blob, KiB".to_owned(),
        of: &|point| Some(kib(point.blob_bytes)),
        tip: &|point| point.blob_bytes.to_string(),
        bound: report.goal.and_then(|goal| goal.flash).map(kib),
    };
    plot(svg, area, report, &axis);
}

fn plot(svg: &mut Svg, area: Area, report: &Report, axis: &Axis) {
    let metric = &report.judged_by;
    let mut placed: Vec<(&FrontPoint, f64)> =
        report.front.iter().filter_map(|point| Some((point, (axis.of)(point)?))).collect();
    if placed.is_empty() {
        return;
    }
    // Uniform policies are on the front too where nothing beats them: one dot is enough.
    let uniform = |name: &str| report.front.iter().any(|p| p.kind == PointKind::Uniform && p.name == name);
    placed.retain(|(point, _)| !matches!(point.kind, PointKind::Front | PointKind::Beside) || !uniform(&point.name));

    let shares = placed.iter().all(|(point, _)| (0.0..=1.0).contains(&point.accuracy));
    let (factor, unit) = if shares { (100.0, ", %") } else { (1.0, "") };
    let value = |point: &FrontPoint| factor * point.accuracy;
    let float = report.goal.map(|Goal { accuracy_float, .. }| factor * accuracy_float);
    let floor = report.goal.and_then(|goal| goal.floor).map(|floor| factor * floor);
    let best = placed.iter().map(|(point, _)| value(point)).chain(float).fold(f64::NEG_INFINITY, f64::max);
    let least = best - REACH * if shares { 1.0 } else { best.abs() / 100.0 };
    let useful = |point: &FrontPoint| point.kind == PointKind::Chosen || value(point) >= least;
    let shown = placed.iter().filter(|(point, _)| useful(point)).map(|(point, _)| value(point));
    let y = Scale::over(shown.chain(float).chain(floor), (area.bottom - 16.0, area.top));
    let x = Scale::over(placed.iter().map(|(_, x)| *x).chain(axis.bound), (area.left, area.right));

    for tick in y.ticks(5) {
        svg.line("grid", (area.left, y.at(tick)), (area.right, y.at(tick)));
        svg.text("tick", (area.left - 8.0, y.at(tick) + 4.0), "end", &number(tick, &y));
    }
    for tick in x.ticks(6) {
        svg.line("grid", (x.at(tick), area.bottom), (x.at(tick), area.top));
        svg.text("tick", (x.at(tick), area.bottom + 18.0), "middle", &number(tick, &x));
    }
    svg.text("axis", (area.right, area.bottom + 36.0), "end", &axis.label);
    svg.text("axis", (area.left - 40.0, area.top - 14.0), "start", &format!("{metric} on validation{unit}"));

    let at = |&(point, px): &(&FrontPoint, f64)| (x.at(px), y.at(value(point)));
    let stairs = |points: Vec<&(&FrontPoint, f64)>| {
        steps(points.into_iter().filter(|(point, _)| useful(point)).map(at).collect(), area.right)
    };
    let uniform = stairs(placed.iter().filter(|(point, _)| point.kind == PointKind::Uniform).collect());
    let front = stairs(placed.iter().collect());
    svg.polyline("uniform-line", &uniform);
    svg.polyline("front-line", &front);

    let mut labels = Labels { area, taken: Vec::new() };
    for point in &placed {
        let (px, py) = at(point);
        labels.taken.push(around((px, if useful(point.0) { py } else { area.bottom - 6.0 }), 5.0));
    }
    for corners in uniform.windows(2).chain(front.windows(2)) {
        labels.taken.push(along(corners[0], corners[1]));
    }
    if let Some(float) = float {
        labels.taken.push(along((area.left, y.at(float)), (area.right, y.at(float))));
    }
    if let Some(bound) = axis.bound {
        labels.taken.push(along((x.at(bound), area.top), (x.at(bound), area.bottom)));
    }
    if let Some(float) = float {
        svg.line("float", (area.left, y.at(float)), (area.right, y.at(float)));
        labels.write(
            svg,
            "note",
            &[((area.left + 4.0, y.at(float) - 4.0), "start"), ((area.right - 4.0, y.at(float) - 4.0), "end")],
            &format!("float {}", precise(float)),
        );
    }
    if let Some(floor) = floor {
        svg.line("limit", (area.left, y.at(floor)), (area.right, y.at(floor)));
        labels.write(
            svg,
            "note",
            &[((area.left + 4.0, y.at(floor) + 13.0), "start"), ((area.right - 4.0, y.at(floor) + 13.0), "end")],
            &format!("at least {}", precise(floor)),
        );
    }
    if let Some(bound) = axis.bound {
        svg.line("limit", (x.at(bound), area.top), (x.at(bound), area.bottom));
        labels.write(
            svg,
            "note",
            &[((x.at(bound) + 4.0, area.bottom - 22.0), "start"), ((x.at(bound) - 4.0, area.bottom - 22.0), "end")],
            "budget",
        );
    }

    let rank = |kind: PointKind| {
        [PointKind::Beside, PointKind::Front, PointKind::Uniform, PointKind::Chosen].iter().position(|k| *k == kind)
    };
    placed.sort_by_key(|(point, _)| rank(point.kind));
    for placed in &placed {
        let (point, (px, py)) = (placed.0, at(placed));
        let tip = format!("{}: {metric} {}{unit}, {}", point.name, precise(value(point)), (axis.tip)(point));
        match point.kind {
            _ if !useful(point) => svg.arrow_down(class(point.kind), (px, area.bottom - 2.0), &tip),
            PointKind::Chosen => {
                svg.dot("halo", (px, py), 11.0, &tip);
                svg.dot("chosen", (px, py), 6.0, &tip);
            }
            kind => svg.dot(class(kind), (px, py), 4.5, &tip),
        }
    }
    // The most telling labels take their places first.
    for placed in placed.iter().rev() {
        let (point, (px, py)) = (placed.0, at(placed));
        match point.kind {
            PointKind::Chosen => labels.write(svg, "note strong", &beside((px, py), 13.0), "chosen"),
            PointKind::Uniform if useful(point) => labels.write(svg, "note", &beside((px, py), 7.0), &point.name),
            PointKind::Uniform => {
                let text = format!("{} {:.0}", point.name, value(point));
                labels.write(svg, "note", &beside((px, area.bottom - 6.0), 8.0), &text);
            }
            PointKind::Front | PointKind::Beside => {}
        }
    }
}

fn class(kind: PointKind) -> &'static str {
    match kind {
        PointKind::Uniform => "uniform",
        PointKind::Front => "front",
        PointKind::Beside => "beside",
        PointKind::Chosen => "chosen",
    }
}

fn precise(value: f64) -> String {
    format!("{value:.1}")
}

/// The corners of the stairs that lead over the points which no cheaper one equals, on to `right`;
/// positions grow downwards.
fn steps(mut points: Vec<(f64, f64)>, right: f64) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        match corners.last() {
            Some(&(_, above)) if y >= above => continue,
            Some(&(_, above)) => corners.extend([(x, above), (x, y)]),
            None => corners.push((x, y)),
        }
    }
    if let Some(&(_, y)) = corners.last() {
        corners.push((right, y));
    }
    corners
}

/// Left, top, right and bottom of a box.
type Box4 = (f64, f64, f64, f64);
/// Where a text may stand, and its anchor.
type Spot = ((f64, f64), &'static str);

/// Places for a label next to a dot, the best first.
fn beside((x, y): (f64, f64), gap: f64) -> [Spot; 8] {
    [
        ((x + gap, y + 4.0), "start"),
        ((x - gap, y + 4.0), "end"),
        ((x, y + gap + 9.0), "middle"),
        ((x, y - gap), "middle"),
        ((x + gap, y + 14.0), "start"),
        ((x - gap, y - 5.0), "end"),
        ((x + gap, y - 5.0), "start"),
        ((x - gap, y + 14.0), "end"),
    ]
}

fn around((x, y): (f64, f64), radius: f64) -> Box4 {
    (x - radius, y - radius, x + radius, y + radius)
}

/// The box of a level or upright line.
fn along(from: (f64, f64), to: (f64, f64)) -> Box4 {
    (from.0.min(to.0), from.1.min(to.1), from.0.max(to.0), from.1.max(to.1))
}

/// Texts that never overlap each other, a dot or a line.
struct Labels {
    area: Area,
    taken: Vec<Box4>,
}

impl Labels {
    /// Writes the text at the first spot with room; where none has, the dot's tip has to do.
    fn write(&mut self, svg: &mut Svg, class: &str, spots: &[Spot], text: &str) {
        let width = LETTER.0 * text.chars().count() as f64;
        let room = |&((x, y), anchor): &Spot| {
            let left = match anchor {
                "start" => x,
                "end" => x - width,
                _ => x - width / 2.0,
            };
            (left, y - LETTER.1 + 3.0, left + width, y + 2.0)
        };
        let area = self.area;
        let inside =
            |b: &Box4| b.0 >= area.left && b.2 <= area.right + 6.0 && b.1 >= area.top - 12.0 && b.3 <= area.bottom;
        let apart = |a: &Box4, b: &Box4| a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1;
        let free = |spot: &&Spot| inside(&room(spot)) && self.taken.iter().all(|taken| apart(taken, &room(spot)));
        if let Some(spot) = spots.iter().find(free).copied() {
            self.taken.push(room(&spot));
            svg.text(class, spot.0, spot.1, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stairs_pass_over_what_is_beaten_and_reach_the_edge() {
        let corners = steps(vec![(30.0, 5.0), (10.0, 20.0), (20.0, 25.0)], 50.0);
        assert_eq!(corners, [(10.0, 20.0), (30.0, 20.0), (30.0, 5.0), (50.0, 5.0)]);
        assert!(steps(Vec::new(), 50.0).is_empty());
    }

    #[test]
    fn labels_that_have_no_room_are_left_out() {
        let area = Area { left: 0.0, right: 100.0, top: 0.0, bottom: 100.0 };
        let mut labels = Labels { area, taken: Vec::new() };
        let mut svg = Svg::new(100.0, 100.0, "");
        let spot = [((10.0, 50.0), "start")];
        labels.write(&mut svg, "note", &spot, "first");
        labels.write(&mut svg, "note", &spot, "second");
        let drawn = svg.finish();
        assert!(drawn.contains("first") && !drawn.contains("second"), "{drawn}");
    }
}
