"""Options of steps: declared once, in a dataclass from which command, checks and documentation are made."""
