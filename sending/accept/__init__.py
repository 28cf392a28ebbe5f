"""Accepting mail: see accept.accept."""
