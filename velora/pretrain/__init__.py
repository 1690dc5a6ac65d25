"""The recipe of the trunk that comes with this package: a small ViT, trained from open images.

``python -m velora.pretrain train`` makes it from Fashion-MNIST and letters, ``publish`` writes the
weights with their recipe, log and probe numbers. See docs/backbone.md.
"""
