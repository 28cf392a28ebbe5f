"""Pre-flight: what a mail would meet, before anything is written. See preflight.check."""
