"""What learns and answers. interface: what every backend does; open: which there are; vllm: the wire they speak."""
