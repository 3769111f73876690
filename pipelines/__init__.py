"""Data in, trained model out. Steps meet only through files; each module is one step or one tool of theirs."""
