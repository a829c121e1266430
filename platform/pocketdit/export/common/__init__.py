"""The parts of an export that all targets share."""
