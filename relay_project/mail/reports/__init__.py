"""Reports that come back by mail: bounces, complaints, TLS and DMARC reports, and what is none of them."""
