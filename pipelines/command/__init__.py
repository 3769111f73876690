"""Declares the options of each command once, as a dataclass, from which the command line and the checks are made."""
