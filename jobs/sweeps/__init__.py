"""What a sweep file says: its settings typed, its axes expanded to runs, each run with its identity.

axes           `sweep:` to points: which settings each run takes beyond the base
command        `run.command`: any program as a job: its argument list, and what is filled in for each run
datasets       Data sets named on the command line: files and `key=value` settings instead of an entry of a sweep file
distributions  `sweep.random.distributions`: what each setting is drawn from, and when it is drawn at all
ensembles      `ensembles:` to members: which runs of the sweep they are, and which runs they need besides
idle           Settings that do nothing in the runs of a sweep: refused where no run reads them, else told
inputs         Are the files there that a data set is made of? Looked at when a sweep is submitted
interpolation  `${run.model.hidden_size}`: values that stand elsewhere in the sweep file, by OmegaConf
labels         Short names for the settings in which the runs of a sweep differ: `cell=gru optimizer=adam`
model_jobs     What is asked of a job that evaluates or samples trained models
overrides      `key=value` of the command line
parameters     `parameters:` of own code: plain values, which are kept exactly or refused with their key
query          Runs chosen by their settings: `exclude:` of a sweep and `members:` of an ensemble
rungs          `sweep.halving`
search         `sweep.search`: runs that are chosen one after another. Its settings, typed
searched       What `sweep.search` chooses from: the distributions, at each point of the grid
seed_list      The value of `seeds:`: how many, or which
seeds          `seeds:` at the top of a sweep file: every configuration runs once with each of them
spec           The typed configuration of a run and of a sweep file
sweep          A sweep file and its overrides to runs: typed, checked, each with its identity
"""
