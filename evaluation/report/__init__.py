"""Result files, statistics, reports and tables."""
