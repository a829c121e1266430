"""Loss functions of all training stages, as pure functions of tensors."""
