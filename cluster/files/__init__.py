"""What stands on disk: journal, inbox, lease, live figures, and where each file is.

durable     Files that are whole or absent, whatever dies when
inbox       Requests to the controller: a maildir, so that asking needs no open port and no living controller
journal     The journal: every event that ever happened, one line each, on disk before anything is done about it
lease       Who is the controller
links       Links that a member of a group has put into the workspace are not followed
live        live.json: how far the running jobs are
origin      Whether a workspace is the one that its files speak of: `queue/workspace.json` says where they were written
paths       Every path of a workspace: the only place that knows file names
removal     Files of jobs that have ended, removed: out of their place at once, from the disk later
run_folder  Whose a run's folder is
store       The queue on disk: the newest good snapshot and the journal after it
"""
