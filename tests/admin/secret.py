"""What stands in every field that no page may show."""

SECRET = "this-must-never-be-shown"
