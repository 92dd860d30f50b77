"""Kernels of our own for CPUs: the training step as compiled code, with the same bits on every processor.

`library` finds what was built, `operations` is the checked border to it, `memory` holds the arrays, `network` and
`update` make a step of them.
"""
