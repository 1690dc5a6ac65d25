"""Raw folders to Zarr to WebDataset shards; imports eventkit, never torch."""
