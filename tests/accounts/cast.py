"""What the cast of these tests knows."""

PASSWORD = "correct horse battery staple"
