"""How sure a figure is: seeds of one configuration as one figure with an interval, and configurations told apart.

`summary` is of one sample, `comparison` of two or more, `seeds` groups runs that differ in their seed alone.
"""
