"""Recurrent language models in PyTorch: cells, optimizers, the training loop. No files' names, no cluster.

For notebooks: `from terry.models import load, Ensemble`. Loaded at first use, so that importing a part stays light.

averages           How predictions are averaged: names only, read without torch
cells              Recurrent layers: RNN, GRU, LSTM, and cells of the user's own by import path; a new one begins here
compiling          `training.compile`: torch.compile of each recurrent layer, and what it needs
config             The keys `model:`, `optimizer:`, `training:` of a run, typed; the names of the cells
copied_runs        Does a model write, or recite? The longest run of tokens that stands in the training text
cross_entropy      The softmax layer and its loss in one, by chunks of rows
determinism        Seeds, numbers of threads, and settings by which a device computes the same bits every time
dropout            Dropout whose mask may stay the same over time, and dropout of whole words
ensemble           Several language models with one vocabulary as one
errors             What is said when a person's setting or file is at fault, and when training cannot go on
evaluate           Perplexity, counted exactly: every target once
guards             What watches a training: first loss, NaN and infinity, spikes, weights that hardly move or jump
initialise         Initial weights by name
kernels/           The step as compiled code, for CPUs
language_model     Embedding or one-hot input, recurrent layers, softmax over the vocabulary
next_token         From probabilities to the next token of each text
optimizers         Optimizers by name, their state as named tensors, and the average of the weights (ASGD)
overfit            The check before days are spent: can a configuration learn a few examples by heart?
protocols          What the trainer needs from outside, and what it tells
recurrence         The recurrent part over a whole sequence, with its gradient written by hand
sample_text        Texts drawn from a model or an ensemble
sampling_settings  How the next token of a text is chosen: settings only, read without torch
schedules          The learning rate as a function of what has happened so far
state              Everything that the next training step depends on: captured, and put back
step               One step of training: forward, backward, update
text_steps         What brings texts under way on by a token: the members' states, and a draw from their predictions
torch_kernels      torch's own kernels of RNN, GRU and LSTM: which of them the device takes
trainer            The training loop, from top to bottom
training_state     All that the next step depends on, copied out of a running training
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terry.jobs.trained.library import load
    from terry.models.ensemble import Ensemble

__all__ = ["Ensemble", "load"]


def __getattr__(name: str) -> Any:
    if name == "Ensemble":
        from terry.models.ensemble import Ensemble

        return Ensemble
    if name == "load":  # the one way up: people look for it here, and what a workspace looks like is jobs' knowledge
        from terry.jobs.trained.library import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
