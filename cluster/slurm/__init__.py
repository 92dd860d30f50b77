"""Nodes that are Slurm jobs."""
