"""From a sweep to jobs on disk: records, the user's own code, one folder published whole."""
