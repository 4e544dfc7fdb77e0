"""What happened: history to timeline to report, and replay."""
