//! Plain text building blocks of a plot: scales, ticks, escaped text.

use std::fmt::Write as _;

/// Text as it may stand between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are not allowed in a document at all.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The text, or its ends around an ellipsis where it is longer than `most` characters.
pub fn shorten(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_owned();
    }
    let head = most.saturating_sub(1) / 2;
    let tail = most.saturating_sub(1) - head;
    let join = |part: &[char]| part.iter().collect::<String>();
    format!("{}…{}", join(&chars[..head]), join(&chars[chars.len() - tail..]))
}

/// A linear map of numbers to positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Numbers at the two ends.
    pub domain: (f64, f64),
    /// Their positions.
    pub range: (f64, f64),
}

impl Scale {
    /// A scale over `values` with a margin of a twentieth at both ends.
    pub fn over(values: impl Iterator<Item = f64>, range: (f64, f64)) -> Scale {
        let finite = values.filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let margin = if high > low { (high - low) / 20.0 } else { high.abs().max(1.0) / 20.0 };
        Scale { domain: (low - margin, high + margin), range }
    }

    /// A scale from zero to the largest of `values`.
    pub fn from_zero(values: impl Iterator<Item = f64>, range: (f64, f64)) -> Scale {
        let high = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        Scale { domain: (0.0, if high > 0.0 { high } else { 1.0 }), range }
    }

    /// The position of a number.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value - self.domain.0) / (self.domain.1 - self.domain.0);
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// About `wanted` round numbers within the domain.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        let span = self.domain.1 - self.domain.0;
        let rough = span / wanted.max(1) as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * decade).find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.domain.0 / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.domain.1 + 1e-9 * span).take(64).collect()
    }
}

/// A drawing of a fixed size that scales with the page.
#[derive(Clone, Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Svg {
    /// An empty drawing; `label` says what it shows to those who cannot see it.
    pub fn new(width: f64, height: f64, label: &str) -> Svg {
        Svg { width, height, label: escape(label), body: String::new() }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    /// A rectangle, with what shows when the pointer rests on it.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64), opacity: f64, tip: &str) {
        let (w, h, tip) = (w.max(0.0), h.max(0.0), escape(tip));
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" rx="2" fill-opacity="{opacity:.2}"><title>{tip}</title></rect>"#
        ));
    }

    /// A dot, with what shows when the pointer rests on it.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tip: &str) {
        let tip = escape(tip);
        self.push(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"><title>{tip}</title></circle>"#
        ));
    }

    /// A mark that points downwards, its tip at the place given.
    pub fn arrow_down(&mut self, class: &str, (x, y): (f64, f64), tip: &str) {
        let (left, right, top, tip) = (x - 5.0, x + 5.0, y - 8.0, escape(tip));
        self.push(format_args!(
            r#"<polygon class="{class}" points="{left:.1},{top:.1} {right:.1},{top:.1} {x:.1},{y:.1}"><title>{tip}</title></polygon>"#
        ));
    }

    /// Straight lines from point to point.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.is_empty() {
            return;
        }
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!(r#"<polyline class="{class}" points="{}"/>"#, list.join(" ")));
    }

    /// A text; `anchor` is `start`, `middle` or `end`.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: &str, text: &str) {
        let text = escape(text);
        self.push(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// The finished element.
    pub fn finish(self) -> String {
        let Svg { width, height, label, body } = self;
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{width:.0}px\" role=\"img\" aria-label=\"{label}\">\n{body}</svg>\n"
        )
    }

    /// The finished drawing as a file of its own with its style sheet.
    pub fn finish_file(self, style: &str) -> String {
        let Svg { width, height, label, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" aria-label=\"{label}\">\n<style>{style}</style>\n{body}</svg>\n"
        )
    }

    fn push(&mut self, element: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}
