"""The daemons of Ray on this node. Does not import the library."""
