"""Where the numbers in docs/benchmarks.md come from: each module prints ratios taken in one run."""
