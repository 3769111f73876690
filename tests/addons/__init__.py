"""Our losses and exported networks in the environment of tensorflow-addons: `make test-addons`.

cases.py runs in our environment and writes what we compute, as files; against_addons.py runs in the other one, where
neither Keras 3 nor this package can be had, and compares.
"""
