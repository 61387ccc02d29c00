//! What `once` prints of a search for the capacity.

use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{
    capacity::{Capacity, Point},
    config::plan::Series,
    units::{Name, Ratio, Seconds},
};

/// One search, named.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    probe: Name,
    target: Name,
    model: String,
    /// Share of requests that are to be good.
    objective: f64,
    #[serde(flatten)]
    capacity: Arc<Capacity>,
}

impl SearchReport {
    pub fn new(series: &Series, capacity: Arc<Capacity>) -> Self {
        Self {
            probe: series.probe.name.clone(),
            target: series.target.name.clone(),
            model: series.target.model.clone(),
            objective: series.step.slo.objective.get(),
            capacity,
        }
    }

    /// Whether it says something of the endpoint.
    pub fn is_sound(&self) -> bool {
        self.capacity.is_known()
    }

    /// Whether any load met the objective.
    pub fn objective_met(&self) -> bool {
        self.capacity.meets.is_some()
    }

    /// For people.
    pub fn text(&self) -> String {
        let capacity = &self.capacity;
        let head = format!(
            "probe {} · target {} ({}) · capacity · {} requests",
            self.probe, self.target, self.model, capacity.requests
        );
        format!("{head}\n{}\n{}\n", self.curve(), capacity.sentence)
    }

    fn curve(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "load", "bursts", "requests", "goodput", "good", "ttft p50", "ttft p95", "itl p50", "",
        ]);
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for point in &self.capacity.curve {
            table.add_row(row(point));
        }
        table
    }
}

fn row(point: &Point) -> [String; 9] {
    let time = |time: Option<Seconds>| time.map_or_else(|| "–".into(), |time| time.to_string());
    [
        point.load.to_string(),
        format!("{} of {} met", point.bursts_met, point.bursts),
        point.requests.to_string(),
        point
            .goodput
            .map_or_else(|| "–".into(), |goodput: Ratio| goodput.to_string()),
        format!("{} of {}", point.good, point.judged),
        time(point.ttft_p50),
        time(point.ttft_p95),
        time(point.itl_p50),
        match point.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "open",
        }
        .into(),
    ]
}
