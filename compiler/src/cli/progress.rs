//! Events of long work as progress bars on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;
use crate::search::Event;
use crate::train::{self, EpochFigures};

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

    /// Takes an event of training.
    pub(super) fn training(&self, event: train::Event) {
        match event {
            train::Event::Epoch { number, of, steps } => {
                let style = ProgressStyle::with_template("{prefix} {msg} [{wide_bar}] {pos}/{len}");
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.bar.set_length(steps as u64);
                self.bar.set_position(0);
                self.bar.set_prefix(format!("epoch {number}/{of}"));
            }
            train::Event::Step { loss, accuracy, rate, left } => {
                self.bar.inc(1);
                let accuracy = accuracy.map_or_else(String::new, |share| format!(" accuracy {share:.4}"));
                let left = left.as_secs().div_ceil(60);
                self.bar.set_message(format!("loss {loss:.4}{accuracy} {rate:.0}/s, {left} min left"));
            }
            train::Event::Scored(EpochFigures { epoch, loss, accuracy, val }) => {
                let accuracy = accuracy.map_or_else(String::new, |share| format!(", accuracy {share:.4}"));
                tracing::info!("epoch {epoch}: loss {loss:.4}{accuracy}, val {val:.4}");
            }
        }
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
