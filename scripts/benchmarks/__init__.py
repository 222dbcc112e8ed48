"""The suites of scripts/benchmark.py: each runs this project beside its peers on the same work."""
