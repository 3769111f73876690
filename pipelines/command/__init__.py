"""The options of steps, each declared once: the command, its checks and its documentation follow from a dataclass."""
