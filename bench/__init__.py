"""Benchmarks: each beside a peer or the physical limit, in one run."""
