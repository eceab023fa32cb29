//! The page of `pare bench-quantizers`: a table a network and width, quantisers down, backends across.

use std::collections::BTreeSet;

use super::html::{document, section};
use super::svg::escape;
use crate::methods::quantizers::{Backend, Quantizer, Row};

/// The whole document.
pub fn page(rows: &[Row]) -> String {
    let tables: BTreeSet<(&str, &str, u8)> = rows.iter().map(place).collect();
    let sections: String = tables.into_iter().map(|at| table(rows, at)).collect();
    document("Quantisers on backends", &sections)
}

/// The table that a row stands in: rows of codebooks stand beside linear ones of as many bits.
fn place(row: &Row) -> (&str, &str, u8) {
    (&row.model, row.weights.trim_start_matches(['w', 'k']), row.activation_bits)
}

fn table(rows: &[Row], at: (&str, &str, u8)) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| place(row) == at).collect();
    let find =
        |quantizer: &str, backend: &str| rows.iter().find(|row| row.quantizer == quantizer && row.backend == backend);
    let backends: Vec<&str> = Backend::ALL
        .map(Backend::name)
        .into_iter()
        .filter(|name| rows.iter().any(|row| row.backend == *name))
        .collect();
    let heads: String =
        backends.iter().map(|name| format!("<th>{name}: as papers do</th><th>deployed</th><th>test</th>")).collect();
    let cells = |quantizer: &str| -> String {
        let cell = |backend: &&str| match find(quantizer, backend) {
            Some(row) => {
                let [academic, deployed, test] =
                    [row.academic, row.deployed, row.test].map(|share| format!("{:.2}", 100.0 * share));
                format!("<td>{academic}</td><td>{deployed}</td><td>{test}</td>")
            }
            None => "<td>–</td><td>–</td><td>–</td>".to_owned(),
        };
        backends.iter().map(cell).collect()
    };
    let quantizers =
        Quantizer::ALL.map(Quantizer::name).into_iter().filter(|name| rows.iter().any(|row| row.quantizer == *name));
    let body: String = quantizers.map(|name| format!("<tr><td>{name}</td>{}</tr>\n", cells(name))).collect();
    let gaps: String = backends
        .iter()
        .map(|backend| {
            let gaps: Vec<f64> = rows.iter().filter(|row| row.backend == *backend).map(|row| row.gap()).collect();
            format!("<td colspan=\"3\">mean gap {:+.2}</td>", gaps.iter().sum::<f64>() / gaps.len().max(1) as f64)
        })
        .collect();
    let (float, epochs) = rows.first().map_or((0.0, 0), |row| (row.float, row.epochs));
    let trained = if epochs > 0 { format!("{epochs} epochs of training each") } else { "no training".to_owned() };
    section(
        &escape(&format!("{}: weights of {} bits, activations of {}", at.0, at.1, at.2)),
        &format!(
            "Float {:.2} on validation samples; {trained}. \"As papers do\": weights and the inputs of layers quantised, sums, \
             pools and outputs real; deployed: the integers of the blob, on the same samples, then on test samples.",
            100.0 * float
        ),
        &format!(
            "<div class=\"scroll\"><table><thead><tr><th>quantiser</th>{heads}</tr></thead><tbody>\n{body}<tr><td></td>{gaps}</tr></tbody></table></div>"
        ),
    )
}
