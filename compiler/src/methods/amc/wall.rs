//! What keeps every episode within its budget.

use super::{AmcError, Subject, Trial};

/// Lets decisions pass that leave the rest of the network a chance: after each one, the network would be within the
/// budget if all groups to come were at their narrowest. So the last one ends within it, rounding included.
pub struct Wall<'a> {
    subject: &'a dyn Subject,
    budget: f64,
    /// The price of the network as it is.
    dense: f64,
}

impl<'a> Wall<'a> {
    /// # Errors
    /// [`AmcError::Infeasible`] and [`AmcError::Empty`].
    pub fn new(subject: &'a dyn Subject, budget: f64) -> Result<Wall<'a>, AmcError> {
        if subject.widths().is_empty() {
            return Err(AmcError::Empty);
        }
        let mut wall = Wall { subject, budget, dense: 0.0 };
        wall.dense = subject.cost(&wall.with_rest(&[], Rest::Widest))?;
        let least = subject.cost(&wall.with_rest(&[], Rest::Narrowest))?;
        if least > budget { Err(AmcError::Infeasible { budget, least }) } else { Ok(wall) }
    }

    /// The width of the group after those `decided` that `action`, from narrowest (0) to all (1), asks for, or the next
    /// narrower one that the budget allows; and the action that would have asked for it.
    ///
    /// # Errors
    /// When a network cannot be priced.
    pub fn decide(&self, decided: &[usize], action: f32) -> Result<(usize, f32), AmcError> {
        let widths = &self.subject.widths()[decided.len()];
        let n = widths.len();
        let mut at = ((action * n as f32) as usize).min(n - 1);
        while at > 0 && !self.allows(&[decided, &widths[at..=at]].concat())? {
            at -= 1;
        }
        Ok((widths[at], (at as f32 + 0.5) / n as f32))
    }

    /// All groups decided by the actions, in order.
    ///
    /// # Errors
    /// As [`Wall::decide`].
    pub fn decide_all(&self, actions: &[f32]) -> Result<Vec<usize>, AmcError> {
        let mut decided = Vec::with_capacity(actions.len());
        for &action in actions {
            let width = self.decide(&decided, action)?.0;
            decided.push(width);
        }
        Ok(decided)
    }

    /// Whether the network with these widths, the rest at its narrowest, is within the budget.
    ///
    /// # Errors
    /// As [`Wall::decide`].
    pub fn allows(&self, decided: &[usize]) -> Result<bool, AmcError> {
        Ok(self.subject.cost(&self.with_rest(decided, Rest::Narrowest))? <= self.budget)
    }

    /// Of the whole price, the share that the groups decided save, and the share that those to come can.
    ///
    /// # Errors
    /// As [`Wall::decide`].
    pub fn share(&self, decided: &[usize]) -> Result<[f64; 2], AmcError> {
        let widest = self.subject.cost(&self.with_rest(decided, Rest::Widest))?;
        let narrowest = self.subject.cost(&self.with_rest(decided, Rest::Narrowest))?;
        Ok([(self.dense - widest) / self.dense, (widest - narrowest) / self.dense])
    }

    /// Prices and judges widths.
    ///
    /// # Errors
    /// When the network cannot be priced or does not run.
    pub fn trial(&self, widths: Vec<usize>) -> Result<Trial, AmcError> {
        Ok(Trial { cost: self.subject.cost(&widths)?, accuracy: self.subject.accuracy(&widths)?, widths })
    }

    fn with_rest(&self, decided: &[usize], rest: Rest) -> Vec<usize> {
        let to_come = self.subject.widths()[decided.len()..].iter();
        let width = |some: &Vec<usize>| match rest {
            Rest::Narrowest => some[0],
            Rest::Widest => some[some.len() - 1],
        };
        decided.iter().copied().chain(to_come.map(width)).collect()
    }
}

/// What groups are taken to be that are not decided.
#[derive(Clone, Copy)]
enum Rest {
    Narrowest,
    Widest,
}

#[cfg(test)]
mod tests {
    use super::super::testing::Chain;
    use super::*;

    #[test]
    fn allows_what_some_completion_allows() {
        for seed in 0..20 {
            let chain = Chain::new(4, 16, seed);
            let full: Vec<usize> = chain.widths().iter().map(|some| some[some.len() - 1]).collect();
            let wall = Wall::new(&chain, 0.6 * chain.cost(&full).unwrap()).unwrap();
            let w = chain.widths();
            for &a in &w[0] {
                for &b in &w[1] {
                    let pairs = w[2].iter().flat_map(|&c| w[3].iter().map(move |&d| [a, b, c, d]));
                    let any = pairs.map(|all| chain.cost(&all).unwrap()).any(|cost| cost <= wall.budget);
                    assert_eq!(wall.allows(&[a, b]).unwrap(), any);
                }
            }
        }
    }

    #[test]
    fn actions_map_to_widths_in_equal_parts() {
        let chain = Chain::new(1, 8, 1);
        let wall = Wall::new(&chain, f64::INFINITY).unwrap();
        let widths = &chain.widths()[0];
        assert_eq!(wall.decide(&[], 0.0).unwrap().0, widths[0]);
        assert_eq!(wall.decide(&[], 1.0).unwrap().0, widths[widths.len() - 1]);
        for &width in widths {
            let at = widths.iter().position(|&w| w == width).unwrap();
            let (found, action) = wall.decide(&[], (at as f32 + 0.3) / widths.len() as f32).unwrap();
            assert_eq!(found, width);
            assert_eq!(wall.decide(&[], action).unwrap().0, width);
        }
    }
}
