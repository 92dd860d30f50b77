"""The command line.

To add a verb: a function in the module of its group, named in `main.VERBS`; what it reads and asks goes into
`terry.cluster.client`.

bring       `import`: sweep files of what people have from other tools
common      What the verbs of the command line share: the session, printing, colours
complete    What the shell offers after TAB
data        The verbs before training: `check`, `prepare`, `datasets`
disk_watch  The command line on a file system that does not answer: it says so, and Ctrl-C works
export      `export`: runs into the trackers that people have
follow      Jobs shown until they have ended: on the dashboard where there is a terminal for it, else line by line
jobs        The verbs that ask something of jobs: `cancel`, `pause`, `resume`, `resubmit`
keep        The verbs by which jobs are kept: `change`, `note`, `tag`, `star`, `archive`, `rm`, `du`, `clean`
logs        `logs`: the output of a job, attempt after attempt, and what it goes on to print
main        `terry-cluster`: all verbs, in `VERBS`, and how mistakes are told
nodes       The verbs about the cluster: `init`, `up`, `down`, `nodes`, `drain`, `undrain`, `doctor`
report      `report`: what a sweep came to, as a file to hand on
results     The verbs about what came out: `results`, `compare`, `plot`
run         `run` and `log`: a program as a job by hand, and what a shell script measures
sample      The verbs about trained models: `sample`, `evaluate`
settings    `settings`: what a sweep file may say
simulate    `simulate`: how long a sweep, or a trace of jobs, would take on a cluster that need not exist
submit      `submit`
views       The verbs that show: `status`, `watch`, `explain`, `wait`
"""
