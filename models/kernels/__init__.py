"""Kernels of our own for CPUs: the training step as compiled code, with the same bits on every processor.

`library` finds what was built, `operations` is the checked border to it, `memory` holds the arrays, `network` and
`update` make a step of them.

chosen      Which kernels compute a training's steps: those that it was begun with, or it says that it does not
draws       Operations that draw the next token of each text, with their bounds
laid_out    A language model's weights as drawing reads them, laid out once
library     The compiled kernels, where they were built: found, checked, called
memory      What a network's compiled operations read and write: its layers, and memory by name
native      A training's step by the compiled kernels
network     Forward and backward pass, as one list of compiled operations for each shape of a batch
operations  Lists of operations for the compiled kernels; all bounds are checked here
passes      The list for batches of one shape: forward, the loss, and backward again
sequences   Operations of the recurrence and of the output layer, with their bounds
text_steps  Texts under way by the compiled kernels: float32 where that decides, float64 where it does not
update      The optimizers' updates, with the same memory under the same names as torch's have
"""
