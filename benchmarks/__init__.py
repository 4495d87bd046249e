"""Speed as ratios measured in one run, CPU-seconds beside wall time; `make bench` writes docs/benchmarks.md."""
