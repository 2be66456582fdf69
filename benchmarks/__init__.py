"""Timings, which belong in no test. Each module is run with `python -m benchmarks.<name>`."""
