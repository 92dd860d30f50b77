"""Search: which points a sweep tries next, by what came of those before. Pure: history in, settings out.

cma        CMA-ES, asked as a function of what is known (the `cmaes` package)
question   How many trials are asked for now, and which
samplers   Tree-structured Parzen estimators and Gaussian processes (the `optuna` package), the same way
suggest    The settings of one trial by the file's method
trial      A trial and what came of it
"""
