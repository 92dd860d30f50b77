"""What runs say: metrics, dashboard, plots, results tables.

format       Numbers, times and tables as people read them
plots        Loss curves as pictures (matplotlib, imported where it is used)
dashboard/   `watch`: frames, keys, the loop, and the terminal given back
records/     What runs leave behind: measurements, results, TensorBoard files
report/      What a sweep came to, as something to hand on: one HTML file without a network, or the table of a paper
statistics/  How sure a figure is: seeds of one configuration as one figure with an interval
text/        Everything else that is printed: status, stories, tables, curves
trackers/    Runs written into MLflow and Weights & Biases
view/        A picture of everything as plain values: what runs, what waits, when it will be done
"""
