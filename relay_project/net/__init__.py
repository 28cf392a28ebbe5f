"""Shared floor: sockets, DNS and SMTP without the ORM."""
