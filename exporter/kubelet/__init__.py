"""The kubelet's word on which container holds which device. The only room that knows gRPC."""
