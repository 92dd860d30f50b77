"""terry.yaml, read and checked."""
