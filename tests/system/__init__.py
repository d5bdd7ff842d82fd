"""Black-box tests: real broker processes, spoken to over the public wire only."""
