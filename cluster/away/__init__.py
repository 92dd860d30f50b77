"""Nodes that do not see the workspace: files there and back."""
