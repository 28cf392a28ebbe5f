"""ISO 8601 with seconds (times are UTC everywhere), in place of Django's "Nov. 22, 2026, 3:22 a.m."."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "Y-m-d H:i:s"
