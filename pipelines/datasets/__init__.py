"""From a raw folder to a list of recordings with labels and splits."""
