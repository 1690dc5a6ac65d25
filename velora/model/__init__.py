"""The method: a frozen ViT in two halves, grouped LoRA, and how the streams meet."""
