"""Image retrieval with Keras: networks, losses, mining, whitening, re-ranking and metrics of the field."""

__version__ = "0.1.0"
