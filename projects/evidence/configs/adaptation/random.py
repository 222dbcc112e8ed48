"""SoRA, annealing included, with random components in place of the minor ones."""

from projects.evidence.components import RandomComponents

from .....configs.common.adaptation.sora import adaptation, hooks

adaptation._target_ = RandomComponents
