"""Stand-ins for the internet on loopback: SMTP, DNS, and a bare sink for benchmarks."""
