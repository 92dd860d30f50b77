"""What runs leave behind: measurements, results, TensorBoard files.

curves       Loss curves: the losses of one run over its steps, as one series whatever crashed in between
losses       The recent losses of a run for a sparkline: reads only what was added since the last time
metrics      Measurements of a run: JSON lines, one file an attempt, read as one series
results      What finished runs found out: result.json of each, as figures for views and as a table
tensorboard  TensorBoard event files, written without TensorBoard
values       What people's code hands over, as JSON that gives back the same value: or refused, with its name
"""
