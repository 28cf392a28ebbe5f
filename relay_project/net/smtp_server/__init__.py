"""The SMTP server: sockets and the protocol. What becomes of a mail is the business of a reception (model.py)."""
