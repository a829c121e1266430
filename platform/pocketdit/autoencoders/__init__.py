"""A small convolutional autoencoder, which ``experiments/emoji/autoencoder.yaml`` trains."""
