"""The declaration of a step's options: said once, in a dataclass from which command, checks and documentation come."""
