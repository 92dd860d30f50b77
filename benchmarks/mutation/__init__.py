"""Do the tests of the core notice when the core is wrong? `python -m benchmarks.mutation` changes it and looks.

Why a driver of our own: mutmut 3.8 names mutants by their file (`cluster.core.state`), while the tests import
`terry.cluster.core.state` through the editable install, so that it stops before the first mutant; cosmic-ray 8.7 starts
pytest anew for each of its 4,857 mutants, 693 of which replace the `|` in type annotations, and neither takes a keyword
argument out of a call, which is what this was first needed for.
"""
