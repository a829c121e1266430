"""Python implementation of what an app does with a bundle, as a reference for Swift and Kotlin code (docs/apps.md)."""
