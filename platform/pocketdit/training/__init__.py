"""Parts of a training step: optimizers, schedules, EMA weights, precision, sharding, and cost estimates."""
