"""What the authors' release computes, counted and loadable by its names; see docs/reproduce.md."""

from velora.compat.build import build_compat
from velora.compat.model import CompatVELoRA
from velora.compat.release import load_release, read_release, release_state

__all__ = ["CompatVELoRA", "build_compat", "load_release", "read_release", "release_state"]
