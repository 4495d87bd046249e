"""Ablations: a question as one file, its runs one after another or as a Slurm array, and a report that answers it."""
