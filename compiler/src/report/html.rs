//! The page: sections in the order that a reader asks.

use super::svg::escape;
use super::{PointKind, Report, charts, curves, front};

/// The whole document.
pub fn page(report: &Report) -> String {
    let title = escape(&format!("{} on {}", report.model, report.target));
    let sections = [
        headline(report),
        stages(report),
        budget(report),
        section(
            "Accuracy against cost",
            "Each dot is a policy, scored on validation samples. The line is the front: nothing above it was found. \
             Arrows at the bottom edge are policies too far below to show.",
            &format!(
                "<div class=\"pair\">{}{}</div>{}",
                front::by_size(report),
                front::by_latency(report),
                legend(&front::legend(report))
            ),
        ),
        methods(report),
        section(
            "Bits per layer",
            "Stored bits of a weight, and width of the layer's output.",
            &(legend(&[("weights", "weights"), ("activations", "output")]) + &charts::bits(&report.layers)),
        ),
        optional(
            "Time per layer",
            "What the target's latency table promised, and what was measured.",
            &charts::times(&report.layers),
            &legend(&[("predicted", "predicted"), ("measured", "measured")]),
        ),
        optional(
            "Memory over time",
            "Every tensor in the arena: when it lives, and where. An arrow between names: the second is written onto the first.",
            &report.memory.as_ref().map(charts::memory).unwrap_or_default(),
            &legend(&[("tensor", "tensor"), ("scratch", "scratch of one step")]),
        ),
        optional(
            "Sensitivity",
            "Loss added when one layer alone takes a choice; the framed ones were taken.",
            &report.sensitivity.as_ref().map(charts::sensitivity).unwrap_or_default(),
            "",
        ),
        layers(report),
        provenance(report),
    ];
    document(&title, &sections.concat())
}

/// A page of sections that loads nothing from elsewhere; `title` is escaped already.
pub(super) fn document(title: &str, sections: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{PLOT_STYLE}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><p class=\"brand\">pare</p><h1>{title}</h1></header>\n{sections}</main>\n</body>\n</html>\n"
    )
}

fn headline(report: &Report) -> String {
    let head = &report.headline;
    let smaller = head.float_bytes.0 as f64 / head.blob_bytes.0.max(1) as f64;
    let (time, time_note) = match (head.measured, head.predicted) {
        (Some(measured), Some(predicted)) => (measured.to_string(), format!("predicted {predicted}")),
        (Some(measured), None) => (measured.to_string(), "measured".to_owned()),
        (None, Some(predicted)) => (predicted.to_string(), "predicted, not measured".to_owned()),
        (None, None) => ("–".to_owned(), "not measured".to_owned()),
    };
    let mut tiles = vec![
        (head.metric.clone(), accuracy(head.accuracy), accuracy_note(report)),
        ("blob".to_owned(), head.blob_bytes.to_string(), format!("{smaller:.1}× smaller than float weights")),
        ("arena".to_owned(), head.arena_bytes.to_string(), "RAM of one inference".to_owned()),
        ("latency".to_owned(), time, time_note),
        ("work".to_owned(), format!("{} MACs", head.macs), format!("{} bit operations", head.bitops)),
    ];
    if let Some(linked) = head.linked {
        let note = format!("{} of it code; {} of RAM, stack included", linked.code_bytes, linked.ram_bytes);
        tiles.insert(3, ("linked".to_owned(), linked.flash_bytes.to_string(), note));
    }
    let tile = |(name, value, note): &(String, String, String)| {
        let (name, value, note) = (escape(name), escape(value), escape(note));
        format!("<div class=\"tile\"><p>{name}</p><strong>{value}</strong><p>{note}</p></div>\n")
    };
    format!("<section class=\"tiles\">\n{}</section>\n", tiles.iter().map(tile).collect::<String>())
}

/// How the metric compares with the float network's, and on which samples.
fn accuracy_note(report: &Report) -> String {
    let head = &report.headline;
    let lost = head.accuracy_float - head.accuracy;
    let change = match (lost, if lost < 0.0 { "above" } else { "below" }) {
        (lost, side) if is_share(head.accuracy) => format!("{:.2} points {side}", 100.0 * lost.abs()),
        (lost, side) => format!("{:.3} {side}", lost.abs()),
    };
    format!("{change} float, {}", report.provenance.evaluated_on)
}

fn is_share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

fn accuracy(value: f64) -> String {
    if is_share(value) { format!("{:.2} %", 100.0 * value) } else { format!("{value:.3}") }
}

fn stages(report: &Report) -> String {
    if report.stages.is_empty() {
        return String::new();
    }
    let row = |stage: &super::StageRow| {
        let reached = stage.accuracy.map_or_else(|| "–".to_owned(), accuracy);
        format!(
            "<tr><td>{}</td><td>{reached}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&stage.name),
            stage.macs,
            stage.bytes
        )
    };
    let rows: String = report.stages.iter().map(row).collect();
    let metric = escape(&report.headline.metric);
    let table = format!(
        "<table><thead><tr><th>after</th><th>{metric}</th><th>MACs</th><th>size</th></tr></thead><tbody>{rows}</tbody></table>"
    );
    section("Step by step", "On all validation samples; sizes are of float weights, then of the blob.", &table)
}

fn budget(report: &Report) -> String {
    if report.budget.is_empty() {
        return String::new();
    }
    let row = |line: &super::BudgetLine| {
        let (name, bound, reached) = (escape(&line.name), escape(&line.bound), escape(&line.reached));
        format!("<tr><td><code>{name}</code></td><td>{bound}</td><td>{reached}</td></tr>\n")
    };
    let rows: String = report.budget.iter().map(row).collect();
    let table = format!(
        "<table><thead><tr><th>bound</th><th>asked</th><th>reached</th></tr></thead><tbody>{rows}</tbody></table>"
    );
    section("Budget", &compared(report), &table)
}

/// What the search went by, which is not what the top of the page reports.
fn compared(report: &Report) -> String {
    let chosen = report.front.iter().find(|point| point.kind == PointKind::Chosen);
    let (Some(goal), Some(chosen)) = (report.goal, chosen) else { return String::new() };
    let metric = escape(&report.judged_by);
    let (reached, float) = (accuracy(chosen.accuracy), accuracy(goal.accuracy_float));
    let floor = goal.floor.map_or_else(String::new, |floor| format!(", at least {} asked", accuracy(floor)));
    format!(
        "The search went by validation samples: {metric} {reached} there (float {float}{floor}). The figures on top are \
         of the finished blob, on {}.",
        escape(&report.provenance.evaluated_on)
    )
}

/// Ways to search, side by side.
fn methods(report: &Report) -> String {
    let row = |method: &super::MethodRow| {
        let cells = [
            escape(&method.name),
            accuracy(method.accuracy),
            method.blob_bytes.to_string(),
            method.latency.map_or_else(|| "–".to_owned(), |ticks| ticks.to_string()),
            if method.tried.is_empty() { "–".to_owned() } else { method.tried.len().to_string() },
            format!("<code>{}</code>", escape(&method.choices.join(" "))),
        ];
        format!("<tr>{}</tr>\n", cells.iter().map(|cell| format!("<td>{cell}</td>")).collect::<String>())
    };
    let rows: String = report.methods.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let heads = [escape(&report.judged_by), "blob".into(), "predicted".into(), "tried".into(), "layers".into()];
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    let table = format!(
        "<div class=\"scroll\"><table><thead><tr><th>search</th>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>"
    );
    section(
        "Ways to search",
        "Within the same budget, scored on the same validation samples; the first is the one that was asked for. Lines \
         below: the best policy so far.",
        &(table + &curves::learning(&report.methods, &report.judged_by)),
    )
}

fn layers(report: &Report) -> String {
    let row = |layer: &super::LayerRow| {
        let ticks = |t: Option<crate::units::Ticks>| t.map_or_else(|| "–".to_owned(), |t| t.to_string());
        let cells = [
            escape(&layer.name),
            escape(&layer.operator),
            escape(&layer.shape),
            layer.weights.as_deref().map_or_else(|| "–".to_owned(), escape),
            format!("a{}", layer.activation_bits),
            if layer.weights.is_some() { layer.weight_bytes.to_string() } else { "–".to_owned() },
            if layer.macs.0 > 0 { layer.macs.to_string() } else { "–".to_owned() },
            ticks(layer.predicted),
            ticks(layer.measured),
            format!("<code>{}</code>", escape(&layer.kernel)),
        ];
        format!("<tr>{}</tr>\n", cells.iter().map(|cell| format!("<td>{cell}</td>")).collect::<String>())
    };
    let heads = ["layer", "operator", "output", "weights", "codes", "bytes", "MACs", "predicted", "measured", "kernel"];
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    let rows: String = report.layers.iter().map(row).collect();
    let table = format!(
        "<div class=\"scroll\"><table class=\"layers\"><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>"
    );
    section("Layers", "", &table)
}

fn provenance(report: &Report) -> String {
    let p = &report.provenance;
    let mut facts = vec![
        ("command".to_owned(), p.command.clone()),
        ("seed".to_owned(), p.seed.to_string()),
        ("digest".to_owned(), p.digest.clone()),
        ("data".to_owned(), p.data.clone()),
        ("accuracy on".to_owned(), p.evaluated_on.clone()),
        ("search".to_owned(), p.search.clone()),
        ("wall time".to_owned(), format!("{:.1} s", report.headline.wall_s)),
    ];
    facts.extend(p.versions.iter().cloned());
    let fact = |(name, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value));
    section("Provenance", "", &format!("<dl>{}</dl>", facts.iter().map(fact).collect::<String>()))
}

fn optional(title: &str, lead: &str, chart: &str, legend: &str) -> String {
    if chart.is_empty() { String::new() } else { section(title, lead, &format!("{legend}{chart}")) }
}

pub(super) fn section(title: &str, lead: &str, body: &str) -> String {
    let lead = if lead.is_empty() { String::new() } else { format!("<p class=\"lead\">{lead}</p>\n") };
    format!("<section>\n<h2>{title}</h2>\n{lead}{body}\n</section>\n")
}

fn legend(entries: &[(&str, &str)]) -> String {
    let entry = |(class, name): &(&str, &str)| format!("<span><i class=\"{class}\"></i>{name}</span>");
    format!("<p class=\"legend\">{}</p>\n", entries.iter().map(entry).collect::<String>())
}

/// Colours, named once, that follow the reader's preference, and what plots look like: enough for a plot
/// in a file of its own.
pub(super) const PLOT_STYLE: &str = r"
:root { --page: #f7f7f5; --card: #ffffff; --ink: #1d2126; --soft: #626a73; --line: #e3e4e1;
  --blue: #2f6fb7; --pale: #9fc1e6; --accent: #d4572a; --grey: #8d949b; --inverse: #ffffff; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --page: #15181b; --card: #1d2125; --ink: #e6e8ea; --soft: #9aa3ab;
  --line: #30363c; --blue: #5b9be0; --pale: #3a5f88; --accent: #f0794b; --grey: #7f8890; --inverse: #ffffff; } }
svg { font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--line); }
.tick, .axis, .note, .value { fill: var(--soft); }
.value { font-size: 11px; }
.axis { font-weight: 600; }
.strong { font-weight: 650; fill: var(--ink); }
.front-line { fill: none; stroke: var(--blue); stroke-width: 1.5; opacity: .55; }
.front, .weights, .measured, .tensor, .heat { fill: var(--blue); background: var(--blue); }
.beside { fill: var(--pale); background: var(--pale); stroke: var(--blue); }
.curve { fill: none; stroke-width: 1.8; }
.look0 { stroke: var(--accent); } .ink0 { fill: var(--accent); }
.look1 { stroke: var(--blue); } .ink1 { fill: var(--blue); }
.look2 { stroke: var(--grey); } .ink2 { fill: var(--grey); }
.look3 { stroke: var(--pale); stroke-dasharray: 6 3; } .ink3 { fill: var(--soft); }
.look4 { stroke: var(--ink); stroke-dasharray: 2 3; } .ink4 { fill: var(--ink); }
.activations, .predicted, .tensor.other { fill: var(--pale); background: var(--pale); }
.uniform { fill: var(--grey); background: var(--grey); }
.chosen { fill: var(--accent); background: var(--accent); }
.halo { fill: var(--accent); opacity: .22; }
.inside { fill: var(--inverse); font-size: 11px; pointer-events: none; }
.inside.other { fill: var(--ink); }
.cell { font-size: 11px; pointer-events: none; }
.frame { stroke: var(--accent); stroke-width: 2.5; fill: none; }
.card { fill: var(--card); }
.title { font-size: 16px; font-weight: 650; }
.limit { stroke: var(--accent); stroke-dasharray: 4 3; }
.float { stroke: var(--ink); stroke-dasharray: 6 4; opacity: .6; }
.uniform-line { fill: none; stroke: var(--grey); stroke-width: 1.2; opacity: .5; }
.scratch { fill: var(--line); stroke: var(--grey); stroke-dasharray: 2 2; background: var(--line); }
";

/// What the page adds.
const STYLE: &str = r"
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
header { margin-bottom: 20px; }
.brand { margin: 0; color: var(--accent); font-weight: 700; letter-spacing: .08em; }
h1 { margin: 0; font-size: 26px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 2px; font-size: 17px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-bottom: 16px; }
.lead { margin: 0 0 10px; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; background: none; border: 0; padding: 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile p { margin: 0; color: var(--soft); font-size: 13px; }
.tile strong { display: block; font-size: 24px; line-height: 1.35; font-weight: 650; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; }
.pair { display: flex; flex-wrap: wrap; gap: 16px; }
.pair svg { flex: 1 1 420px; }
.legend { margin: 4px 0 8px; color: var(--soft); font-size: 13px; }
.legend span { margin-right: 18px; white-space: nowrap; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
.layers td:nth-child(n+6):nth-child(-n+9), .layers th:nth-child(n+6):nth-child(-n+9) { text-align: right; }
.layers td:nth-child(1) { font-weight: 600; }
code { font: 12px ui-monospace, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 8px 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font: 13px/1.6 ui-monospace, monospace; }
@media print { body { background: none; } section { break-inside: avoid; } }
";
