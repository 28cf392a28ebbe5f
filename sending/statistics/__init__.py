"""What became of mail, by the hour and the day: roll-ups of the event log and of what comes in."""
