"""What a model says of clips, and how good that is."""
