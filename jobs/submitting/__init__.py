"""From a sweep to jobs on disk: records, the user's own code, one folder published whole.

extra         One more job for a sweep, without a sweep file: an evaluation or a sampling, submitted as all jobs are
extension     Trainings that have ended, asked to go on for longer
folder        A submission's folder: filled beside its place, then renamed into it whole
plan          What a submission adds to its sweep: which jobs are new, which are there already, under which ids
records       What stands in a submission's folder: jobs.jsonl and submission.json, as types
source        A user's own code behind `entrypoint:`, as it was at submission
source_files  What of a user's folder belongs to his code
submission    From a sweep file to jobs on disk: the file read, its code found, and one folder that is published whole
trials        Trials of a search as runs of its sweep: those that are recorded, and those that are asked for next
"""
