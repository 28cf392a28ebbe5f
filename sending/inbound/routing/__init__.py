"""Mail that a project receives for a domain of its own: which addresses, and what becomes of their mail."""
