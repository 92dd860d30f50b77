"""Runs written into the trackers that people have. Each library is an extra, imported where it is used.

content  A run as any tracker takes it: settings, one curve whatever crashed in between, final figures
mlflow   Into an MLflow tracking store
wandb    Into a folder of offline runs of Weights & Biases, which `wandb sync` uploads
"""
