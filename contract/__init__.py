"""What crosses a boundary: envelopes, cursor, intents, outcomes, errors, activity names and models. No I/O.

This package imports nothing else of the project; everything else may import it.
"""
