"""Which device the kubelet has allocated to which container. The only room that imports gRPC."""
