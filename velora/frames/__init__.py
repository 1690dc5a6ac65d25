"""From a batch of clips to the frames that a model looks at."""
