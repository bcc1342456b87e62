"""What stands at a process's edge in tests: other processes, played by small servers."""
