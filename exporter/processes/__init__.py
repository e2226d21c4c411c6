"""Finds the pod and the container that a process runs in, by the host's ``/proc``."""
