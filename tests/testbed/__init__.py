"""Real machines for tests: ssh hosts and a Slurm cluster on one Debian machine, as root. See README.md."""
