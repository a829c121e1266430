"""Rule-based judges for scene images: object detection, colors, question answering and noun chunks."""
