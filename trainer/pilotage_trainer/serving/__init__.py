"""`pilotage-serve`: a pair behind vLLM's interface."""
