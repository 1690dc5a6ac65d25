"""Deterministic ustar: equal samples give equal bytes.

Fixed mode, owner and time; members in order; two zero blocks and padding to 10,240 bytes as GNU
tar does. Hashes are taken while writing, so nothing is read again.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

import google_crc32c

from eventkit.errors import SettingsError
from eventkit.samples import MAX_NAME_BYTES

BLOCK = 512
RECORD = 10_240
MAX_MEMBER_BYTES = (1 << 33) - 1  # eleven octal digits


class TarWriter:
    """Writes members to a binary file and knows where each one lies.

    Parameters
    ----------
    file : binary file, open for writing
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._crc32c = google_crc32c.Checksum()
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its data."""
        self._write(header(name, len(data)))
        offset = self.size
        self._write(data)
        self._write(bytes(-len(data) % BLOCK))
        return offset

    def close(self) -> tuple[str, str]:
        """Write the end; returns (sha256, crc32c) as hex."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.size % RECORD))
        return self._sha256.hexdigest(), self._crc32c.digest().hex()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._crc32c.update(data)
        self.size += len(data)


def header(name: str, size: int) -> bytes:
    """Return the 512-byte ustar header of a regular file."""
    encoded = name.encode("ascii")
    if len(encoded) > MAX_NAME_BYTES:
        msg = f"expected a member name of at most {MAX_NAME_BYTES} bytes, got {name!r}"
        raise SettingsError(msg)
    if size > MAX_MEMBER_BYTES:
        msg = f"{name}: expected at most {MAX_MEMBER_BYTES} bytes a member, got {size}"
        raise SettingsError(msg)
    block = bytearray(BLOCK)
    block[0 : len(encoded)] = encoded
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\00000"
    block[329:337] = block[337:345] = b"0000000\0"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
