"""Outside the sprite, effectful: the two transports and the delivery of messages."""
