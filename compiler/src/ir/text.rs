//! The textual form.
use super::Graph;
use std::fmt;
pub(super) fn print(_graph: &Graph, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
    Ok(())
}
