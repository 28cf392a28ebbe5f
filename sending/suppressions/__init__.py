"""The list of suppressed addresses: finding, changing, importing and exporting it."""
