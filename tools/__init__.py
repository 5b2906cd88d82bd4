"""Tools of the repository: set-up, checks, the demo, training."""
