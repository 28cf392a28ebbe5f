"""What comes back: reports of bounces and complaints, and mail that comes in by SMTP without a login."""
