"""The raters, their comparisons and their answers in a database."""
