"""The world changed as decided: kubernetes.py through the API server, local.py through processes and files."""
