"""Networks: `build` by name, their trunks and poolings, training models, precision and weights."""
