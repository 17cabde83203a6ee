"""Control of a trained U-Net by images: ControlNet."""
