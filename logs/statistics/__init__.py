"""How sure a figure is: seeds of one configuration as one figure with an interval, and configurations told apart.

`summary` is of one sample, `comparison` of two or more, `seeds` groups runs that differ in their seed alone.

bands       Curves of several seeds as one: their mean, and the band of its 95% interval
comparison  Are two configurations different, by how much, how surely, and how many seeds would tell? Pure
seeds       Runs that differ in their seed alone, as one configuration
summary     Several values of one figure as one: mean, spread, and an interval that holds the true mean
"""
