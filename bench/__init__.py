"""Benchmarks: ``python -m bench NAME`` prints tables for people and, as its last line, one JSON object for machines."""
