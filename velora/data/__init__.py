"""Shards as training data: plain PyTorch datasets and loaders, and the clips of VELoRA.

`ShardDataset`, `LaneSampler` and `ShardLoader` know nothing of the model and fit any training loop;
`ClipDataset` and `ClipLoader` decode what VELoRA's pictures are made of.
"""

from velora.data.batches import Batch as Batch
from velora.data.batches import make_batch as make_batch
from velora.data.clip_loader import ClipLoader as ClipLoader
from velora.data.clips import Clip as Clip
from velora.data.clips import ClipDataset as ClipDataset
from velora.data.clips import Sense as Sense
from velora.data.clips import decode_clip as decode_clip
from velora.data.dataset import Padding as Padding
from velora.data.dataset import ShardDataset as ShardDataset
from velora.data.loader import ShardLoader as ShardLoader
from velora.data.sampler import LaneSampler as LaneSampler
from velora.data.spec import DataSpec as DataSpec
from velora.data.spec import check_fits as check_fits
from velora.data.spec import check_labels as check_labels
from velora.data.spec import check_splits as check_splits
from velora.data.spec import describe as describe
from velora.data.spec import filled_splits as filled_splits
