//! Bytes of the arena, from the planner that lowering uses.

use crate::policy::Policy;
use crate::search::budget::Metric;
use crate::units::{Bytes, Quantity, Unit};

use super::{Cost, CostError, Coupling};

/// Peak arena bytes, from a function that plans the memory of a policy.
pub struct Ram<F>(pub F);

impl<F> Cost for Ram<F>
where
    F: Fn(&Policy) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>>,
{
    fn metric(&self) -> Metric {
        Metric::Ram
    }

    fn unit(&self) -> Unit {
        Unit::Bytes
    }

    fn coupling(&self) -> Coupling {
        Coupling::Whole
    }

    fn of(&self, policy: &Policy) -> Result<Quantity, CostError> {
        (self.0)(policy).map(Quantity::Bytes).map_err(|source| CostError::Exact { metric: Metric::Ram, source })
    }

    fn per_layer(&self, _policy: &Policy) -> Result<Vec<(String, f64)>, CostError> {
        Ok(Vec::new())
    }
}
