"""Other people's checkpoints: what they hold is read, and none of their code is run."""
