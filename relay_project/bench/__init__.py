"""Benchmarks: named scenarios over the real processes, an own PostgreSQL with fsync on, and a sink that counts."""
