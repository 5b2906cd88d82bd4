"""Benchmarks: tables against a floor in the same run. Nothing here is asserted by tests."""
