//! Events of long work as progress bars on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;
use crate::search::Event;

/// Shows stages one after another on standard error; silent when that is no terminal or `--quiet`.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(global: &Global) -> Progress {
        let bar = ProgressBar::no_length();
        if global.quiet || global.json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress { bar }
    }

    /// A stage without steps.
    pub(super) fn stage(&self, name: &str) {
        self.bar.set_style(ProgressStyle::default_spinner());
        self.bar.set_message(name.to_owned());
        tracing::info!("{name}");
    }

    /// Takes an event of a search or a measurement.
    pub(super) fn event(&self, event: Event) {
        match event {
            Event::Stage { name, steps } => {
                let style = ProgressStyle::with_template("{msg:24} [{wide_bar}] {pos}/{len} {elapsed}");
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.bar.set_length(steps as u64);
                self.bar.set_position(0);
                self.bar.set_message(name);
            }
            Event::Step { label } => {
                self.bar.inc(1);
                tracing::debug!("{label}");
            }
            Event::Finished { summary } => tracing::info!("{summary}"),
        }
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
