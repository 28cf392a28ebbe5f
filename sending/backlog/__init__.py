"""What waits, seen as a whole: the ledger that proves nothing is silent, depth, and upkeep of the waiting rows."""
