"""Files of others, read without executing anything in them: pickles, torch, safetensors, HDF5, .npz and .keras."""
