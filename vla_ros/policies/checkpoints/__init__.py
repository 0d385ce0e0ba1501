"""Reading checkpoints: where they are, whose statistics they hold, weights one tensor at a time."""
