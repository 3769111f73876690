"""Training: streams of tuples, mining, runs that can be resumed; the steps train, classify, train-proposals."""
