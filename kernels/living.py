"""States of weight 0, which may hold anything: outliers would set the scale of all others."""

import torch


def living(states: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
    """The states (N, D), those of weight 0 made copies of one that has some."""
    dead = log_weights == -torch.inf
    if bool(dead.any()):
        states = states.clone()
        states[dead] = states[log_weights.argmax()].clone()
    return states
