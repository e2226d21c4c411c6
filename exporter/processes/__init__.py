"""Whose process is it: the host's /proc."""
