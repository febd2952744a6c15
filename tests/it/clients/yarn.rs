//! yarn.
use super::{Cannot, Command, Outcome, scene::Scene};
pub(super) fn run(_command: Command, _scene: &Scene) -> Outcome {
    Cannot("nobody knows yet")
}
