"""Chaos: the product under load while its processes, its database and its disk fail; counts what that cost the mail."""
