"""A trained run as something that predicts."""
