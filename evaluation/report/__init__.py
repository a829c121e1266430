"""Results on disk, statistics, reports and tables."""
