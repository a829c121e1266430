"""What an app does with a bundle: the reference in Python for the loops in Swift and Kotlin (docs/apps.md)."""
