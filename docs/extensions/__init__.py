"""Extensions of Sphinx: pages of commands, tables of measurements, tables from the code, docstrings."""
