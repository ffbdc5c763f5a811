"""The demo model: scenes drawn by code, an autoencoder, a text encoder and a UNet, exported for diffusers."""
