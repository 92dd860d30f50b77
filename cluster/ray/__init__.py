"""The daemons of Ray on this machine. Does not import the library."""
