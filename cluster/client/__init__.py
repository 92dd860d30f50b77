"""What a person's side reads and asks: no controller is needed.

absent      Why no more nodes come: in Slurm's and ssh's own words
asking      What people ask of jobs and devices: requests into the workspace's inbox, for those that they fit
awaited     What is waited for: jobs by id, and the trials of searches, also those still to be chosen
doctor      `doctor`: is the workspace sound? Looks at files alone and changes nothing
exporting   Runs as trackers take them, read from the workspace's files; and one after the other into a tracker
extending   Asking that trainings go on for longer
facts       What selectors ask of a job beyond its record: figures and settings, read from its files
filters     Selectors that say what a job must be: its state, tags, settings, figures
finding     What `doctor` has found
following   Following jobs until they have ended: reads files a few times a second, and only what changed
keeping     What people ask of jobs that are there: other terms, notes and tags, put away
models      What is asked of trained models: which runs are meant, where samples are kept, and the same as a job
reader      What the command line knows of a workspace: read from its files alone, with the controller up or down
reporting   What a report says of the selected runs: read from the workspace's files, put together as plain values
results     What came out of runs, as plain values: a row for each, what sets them apart, their curves
rights      Who can read what in a workspace: for `doctor`, and for views
room        What jobs take up on the disk, what of it could go, and asking that it goes
searching   Asks the searches of a workspace what to try next; a process of its own
selectors   SELECTOR: how people name jobs on the command line
setup       Making a workspace: private, or for a group
simulating  What is simulated, and what came of it: a sweep's jobs with the durations that are known, and figures
submitting  Submitting: from a sweep to jobs on disk, and a controller that will run them
views       What is shown of jobs, as plain values: their rows, the story of one, the last lines of a file
watching    The workspace as the source of what the dashboard shows
"""
