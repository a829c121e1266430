"""Access to the files of a run: its folder, its configuration, and its trained network, decoder, or autoencoder."""
