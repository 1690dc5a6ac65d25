"""Commands over the parts of velora: ablate, export, predict, weights."""
