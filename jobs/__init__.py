"""What a job of this project is: its configuration, its process, its entry points.

command      Entry point `terry.jobs.command:main`: runs any program, and tells how it goes and ends
context      What a training function of one's own imports: `RunContext`, `Batches`
evaluate     Entry point `terry.jobs.evaluate:main`: perplexity of runs and of their ensemble, as a job
prepare      Entry point `terry.jobs.prepare:main`: make a data set, once, for all runs that read it
sample       Entry point `terry.jobs.sample:main`: texts from a trained model, as a job
train        Entry point `terry.jobs.train:main`: data, model and trainer put together, told of by a RunContext
imports/     Files of other tools (W&B, Hydra, Slurm, Determined) become sweep files
process/     Inside a job's process: its order, its context, its checkpoints, how it ends
search/      Which points a sweep tries next, by what came of those before
submitting/  From a sweep to jobs on disk: records, the user's own code, one folder published whole
sweeps/      What a sweep file says: its settings typed, its axes expanded to runs, each run with its identity
trained/     Trained models, opened from a workspace's files
"""
