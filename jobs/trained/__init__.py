"""Trained models, opened from a workspace's files."""
