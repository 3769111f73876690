"""Groups: the photos of a collection by object, from calibrated probabilities."""
