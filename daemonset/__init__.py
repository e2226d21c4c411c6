"""How the exporter is installed: image, kustomize, Helm chart; and what of that is generated."""
