"""Training stages: elastic pre-training, distillation, quantization, and tiny decoders."""
