"""Nodes that are Slurm jobs.

Where a Slurm node is asked for: `provider.reconcile` decides by `plan`, `commands` sends it.

commands   What is asked of Slurm: `sbatch` through submitit, `squeue`, `scancel`
next_head  next-head.json: which Slurm job goes on when the one in which the head runs has ended (`head: slurm`)
notice     Word of a preemption for the program in a Slurm job, also where Slurm tells only the job's steps
plan       How many Slurm jobs a group of nodes needs now: which to ask for, which to let go, which to cancel
provider   Nodes that are Slurm jobs: asked for while jobs wait, let go when nothing runs on them
worker     What a Slurm job runs that is a node
"""
