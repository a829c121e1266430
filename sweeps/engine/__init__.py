"""The engine of a study, which queues trials, runs workers, and trains each trial."""
