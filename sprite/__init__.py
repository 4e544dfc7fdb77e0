"""Inside the sprite: read the loop's artifacts, run allowlisted control, serve both over HTTP."""
