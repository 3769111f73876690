"""Training of networks: mining, streams of tuples, runs that can be resumed; steps train, classify, train-proposals."""
