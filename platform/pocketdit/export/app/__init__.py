"""What an app does with a bundle, in Python, as a reference for the code in Swift and Kotlin (docs/apps.md)."""
