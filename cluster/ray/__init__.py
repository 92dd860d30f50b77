"""The daemons of Ray on this node. Does not import the library.

daemons    Starting Ray's daemons on this node: settings, private folder, command, session
head       The Ray head of a workspace: start it as a daemon, know whether it is well, end all of it and nothing else
listening  On which addresses and ports processes of this node listen, from /proc: what `ss -ltnp` shows
"""
