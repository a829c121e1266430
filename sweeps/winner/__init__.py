"""A study's best trial, written as a standalone experiment."""
