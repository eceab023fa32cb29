//! Training: a graph's weights as parameters, gradients, optimisers, and the loop over a data set.
//!
//! * [`net`] turns a graph into a network in training, and back; [`init`] gives it random weights.
//! * [`weight_map`] is the seam through which weights pass before a layer uses them: masks, codes, shared values.
//! * [`activation_map`] is the same behind operators.
//! * [`method`] is the seam of methods that take part in training: they attach maps and say what is scored.
//! * [`qat`] is quantisation-aware training.
//! * [`loss`] says how wrong its outputs are, [`optimiser`] and [`schedule`] what to do about it.
//! * [`batches`] makes batches of a data set, [`augment`] changes their images.
//! * [`fit`] is the loop; [`checkpoint`] lets it be interrupted anywhere.
//!
//! The arithmetic is in `ops`, one file an operator, and ends in the two loops of `tile`.

pub mod activation_map;
pub mod augment;
mod batch_norm;
mod batches;
mod channels;
pub mod checkpoint;
pub mod fit;
pub mod init;
pub mod loss;
pub mod method;
pub mod net;
mod ops;
pub mod optimiser;
pub mod parameter;
pub mod qat;
pub mod schedule;
mod simd;
mod sweep;
mod tile;
pub mod weight_map;

pub use activation_map::ActivationMap;
pub use augment::Augmentation;
pub use fit::{Distillation, EpochFigures, Event, Recipe, Start, TrainError, Trained, Training};
pub use init::randomised;
pub use loss::{Loss, Objective, distillation, distributions};
pub use method::Method;
pub use net::{Net, NetError, Norms};
pub use optimiser::{Lookahead, Optimiser, Rule};
pub use parameter::{Parameter, Role};
pub use qat::{Estimator, QuantisedTraining, TrainedCodes};
pub use schedule::{Decay, Schedule};
pub use weight_map::WeightMap;
