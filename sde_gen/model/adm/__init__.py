"""ADM, the U-Net of guided-diffusion."""
