"""Rule-based judges of scene images: object detection, colors, question answering and noun chunks."""
