"""What the product costs and how fast it is: one file a question, run by `make bench`."""
