"""Export to .tflite files for LiteRT."""
