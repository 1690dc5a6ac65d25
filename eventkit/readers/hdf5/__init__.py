"""HDF5 in the layouts of data sets and cameras."""
