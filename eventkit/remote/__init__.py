"""Stores behind a URL: what fsspec opens, with our words for what goes wrong."""

from __future__ import annotations

from eventkit.remote.faults import remote_faults as remote_faults
from eventkit.remote.files import RemoteFile as RemoteFile
from eventkit.remote.files import remote_place as remote_place
from eventkit.remote.listing import Listing as Listing
from eventkit.remote.listing import ObjectStatus as ObjectStatus
from eventkit.remote.path import RemotePath as RemotePath
