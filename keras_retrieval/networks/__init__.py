"""Retrieval networks: building them by name, their trunks and weights, and the Keras models that train them."""
