"""What a person types: the operator's commands."""
