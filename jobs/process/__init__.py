"""Inside a job's process: its order, its context, its checkpoints, how it ends.

away            What an attempt reads beside its own run's files: sent to nodes that do not see the workspace
checkpoints     Checkpoints on disk: whole or absent, verified when loaded, written off the training thread
child           The first of our code in a job's process: makes it safe to crash, runs the entry point
context         RunContext: all that a running job may use
device_check    Is the device that was asked for the one that is used? Asked before the first step
halving         Successive halving: runs of a sweep that do worse than others at the same point end early (ASHA)
loop            A plain PyTorch loop in and out of a checkpoint: `ctx.restore(...)` and `ctx.save(step)`
order           The order that starts a job's process, as its agent hands it over
preload         What a forkserver imports before it forks: whatever a job would otherwise import by itself, each time
preload_light   The same of the small forkserver, for jobs whose code does without torch
program_output  What a program says of how it goes on: its output by patterns, and the files that it writes
progress        What a job says of how far it is: JSON lines into a pipe that its agent reads
reading         How a run reads its data: batches of the training and of the validation text
spec_file       spec.yaml: what a run is made of, written once before its first step
stop            SIGTERM as a question that the job's own loop answers: write a checkpoint, then leave with exit code 75
trees           Nested states with tensors in them, for a checkpoint: tensors by name, and where they go
unheard         What a program said just before its attempt was lost, and nobody heard
"""
