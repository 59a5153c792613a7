"""A real Slurm, started for the tests, and what runs on it."""
