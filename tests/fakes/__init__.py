"""In-memory stand-ins of the ports; they pass the same contract suites."""
