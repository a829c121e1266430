"""Training stages: elastic pre-training, distillation, quantization, fine-tuning, autoencoders, and tiny decoders."""
