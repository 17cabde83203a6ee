"""U-Nets for images."""
