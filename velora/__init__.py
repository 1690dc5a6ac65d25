"""VELoRA: RGB-Event recognition with low-rank adaptation of one frozen ViT.

The method of arXiv 2412.20064 (Event-AHU/VELoRA), written anew. Not the reinforcement-learning
package ``velora`` of PyPI: this one is distributed as ``velora-eventkit``.
"""
