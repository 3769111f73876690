"""Model out: what turns descriptors and models into something that answers queries."""
