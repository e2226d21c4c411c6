"""A real Kubernetes on this machine, in namespaces of its own, without a container engine."""
